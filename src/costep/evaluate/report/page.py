"""Assembles the sections into one HTML file and writes it atomically."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

from costep.evaluate.report import sections
from costep.evaluate.report.data import ReportData
from costep.evaluate.report.style import SCRIPT, STYLE

PARTS = (
    ("watch", "Watch", sections.videos),
    ("results", "Results", sections.results),
    ("inside", "Inside", sections.inside),
    ("speed", "Cost", sections.speed),
    ("reproduce", "Again", sections.reproduce),
)


def render_report(data: ReportData) -> str:
    """The complete page; nothing in it refers to anything outside it."""
    parts = [(anchor, name, make(data)) for anchor, name, make in PARTS]
    shown = [(anchor, name, html) for anchor, name, html in parts if html]
    links = "".join(f'<a href="#{anchor}">{name}</a>' for anchor, name, _ in shown)
    body = "".join(html for _, _, html in shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(data.title)}</title><style>{STYLE}</style></head><body>"
        f'<nav aria-label="Sections">{links}</nav><main>{sections.header(data)}{body}</main>'
        f"<script>{SCRIPT}</script></body></html>\n"
    )


def write_report(path: Path | str, data: ReportData) -> Path:
    """Render to ``path``; a reader never finds half a page."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(render_report(data), encoding="utf-8")
    os.replace(temporary, path)
    return path
