"""Simulated benchmarks: one adapter each, and `desk`, the suite that costep carries itself."""
