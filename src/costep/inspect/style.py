"""One look for all pictures, in light and in dark.

Pictures are SVG with live text. Everything that is ink, grid or paper is drawn in a placeholder
colour and replaced by a CSS variable with a fallback, so a picture inlined in a page follows the
page's theme, and the same file opened alone looks right on white. Data colours are mid-tones that
read on both; the three gate colours are those of S2-VLA's figure 4.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#010203", "#010204", "#010205", "#010206"
_THEME = {
    INK: "var(--ink, #1c2430)",
    MUTED: "var(--muted, #667085)",
    GRID: "var(--line, #dfe3ea)",
    PAPER: "var(--paper, #ffffff)",
}
VISION, INTENT, ACTION = "#2f9e6e", "#e2604f", "#3f7fe0"
ACCENT, WARM, GREY = "#3f7fe0", "#e39b2d", "#98a2b3"
DEPTH = ("#a9c8fb", "#79a7f3", "#4f86e8", "#3768cf", "#2850ab")  # shallow to deep
SERIES = ("#3f7fe0", "#e39b2d", "#2f9e6e", "#8a63d2", "#e2604f", "#4aa8b8")

_FONT = "var(--font, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif)"
_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "svg.hashsalt": "costep",
    "font.size": 10,
    "font.family": "DejaVu Sans",
}


def figure(width: float, height: float) -> Figure:
    """An empty transparent figure, in inches; no pyplot, no global state."""
    fig = Figure(figsize=(width, height))
    fig.patch.set_alpha(0)
    return fig


def quiet(ax: Axes, *, grid: str | None = "y") -> Axes:
    """Take the furniture out: no box, hairline grid, muted tick labels."""
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(GRID)
    ax.tick_params(colors=MUTED, length=0, labelsize=9)
    if grid:
        ax.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    return ax


def empty(ax: Axes) -> Axes:
    """An axes that only holds pictures."""
    ax.set_facecolor("none")
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def note(
    ax: Axes,
    text: str,
    at: tuple[float, float],
    shift: tuple[float, float] = (0, 0),
    *,
    coords: tuple[str, str] = ("data", "data"),
    **style: Any,
) -> None:
    """Text at a point, moved by ``shift`` typographic points; each coordinate "data" or "axes"."""
    names = {"data": "data", "axes": "axes fraction"}
    ax.annotate(
        text,
        at,
        shift,
        xycoords=(names[coords[0]], names[coords[1]]),
        textcoords="offset points",
        **style,
    )


def spread(values: Sequence[float], least: float) -> list[float]:
    """Label heights for ``values``, in their order, pushed up where they would touch."""
    heights: dict[int, float] = {}
    floor = float("-inf")
    for index in sorted(range(len(values)), key=lambda i: values[i]):
        heights[index] = max(float(values[index]), floor)
        floor = heights[index] + least
    return [heights[index] for index in range(len(values))]


def svg(fig: Figure) -> bytes:
    """The themed SVG of a figure; equal figures give equal bytes, ids are unique per figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    for placeholder, variable in _THEME.items():
        text = text.replace(placeholder, variable)
    text = re.sub(r"'DejaVu Sans'(, [^;\"]*)?", _FONT, text)
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}-', text)
    return text.encode()


def depth_colour(fraction: float) -> str:
    """Colour of a depth in [0, 1]: the deeper, the darker."""
    index = min(len(DEPTH) - 1, max(0, round(fraction * len(DEPTH) - 0.5)))
    return DEPTH[index]
