"""Simulated benchmarks: one adapter per benchmark, and `desk`, the suite that costep carries itself."""
