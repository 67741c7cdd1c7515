"""The report: one HTML file, no external resource, made of nothing but the facts passed in."""

from costep.evaluate.report.data import (
    Figure,
    Headline,
    LatencyRow,
    ReportData,
    Stage,
    SuccessRow,
    TaskRow,
    Video,
)
from costep.evaluate.report.page import render_report, write_report

__all__ = [
    "Figure",
    "Headline",
    "LatencyRow",
    "ReportData",
    "Stage",
    "SuccessRow",
    "TaskRow",
    "Video",
    "render_report",
    "write_report",
]
