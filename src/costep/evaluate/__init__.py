"""Closed-loop evaluation worth trusting: protocol, records, statistics, runner, video, report.

Nothing is imported here, so that ``import costep.evaluate.statistics`` stays free of heavy modules.
"""
