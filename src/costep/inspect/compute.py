"""What success costs: rates against layers run (A1, table 5, drawn), and time against depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from costep.evaluate.records import EpisodeRecord, Score
from costep.inspect.style import (
    ACCENT,
    GREY,
    INK,
    MUTED,
    PAPER,
    SERIES,
    figure,
    note,
    quiet,
    spread,
    svg,
)

FULL = 0.95  # share of layers above which a run counts as full depth; there is room beside it
PLAIN: dict[str, Any] = {"fontsize": 9, "color": MUTED}


@dataclass(frozen=True)
class ComputePoint:
    """One run: its share of the backbone's layers, and its score. ``layers`` None: a control."""

    label: str
    layers: float | None
    score: Score


def compute_figure(points: Sequence[ComputePoint]) -> bytes:
    """SVG: success with 95 % Wilson intervals against the share of layers run.

    Controls that run no network become horizontal lines.
    """
    fig = figure(8.8, 3.7)
    ax = quiet(fig.add_axes((0.075, 0.13, 0.90, 0.85)))
    runs = [p for p in points if p.layers is not None and p.score.trials]
    at_full = [p for p in runs if (p.layers or 0) > FULL]
    names = dict(zip(at_full, spread([p.score.rate or 0 for p in at_full], 0.13), strict=True))
    for index, point in enumerate(sorted(runs, key=lambda p: p.layers or 0)):
        _dot(ax, point, SERIES[index % len(SERIES)], names.get(point))
    for point in points:
        if point.layers is None and point.score.trials:
            rate = point.score.rate or 0.0
            ax.axhline(rate, color=GREY, linewidth=1.1, linestyle=(0, (5, 4)), zorder=1)
            label = f"{point.label}  {rate:.0%}"
            note(ax, label, (0.005, rate), (0, 4), coords=("axes", "data"), **PLAIN)
    ax.set_xlim(0, 1.2)
    ax.set_ylim(-0.02, 1.14)
    ax.set_xticks(np.linspace(0, 1, 6), [f"{x:.0%}" for x in np.linspace(0, 1, 6)])
    ax.set_yticks(np.linspace(0, 1, 5), [f"{y:.0%}" for y in np.linspace(0, 1, 5)])
    ax.set_xlabel("backbone layers run", color=INK, fontsize=9.5)
    ax.set_ylabel("success", color=INK, fontsize=9.5)
    return svg(fig)


def latency_figure(records: Iterable[EpisodeRecord]) -> bytes:
    """SVG: milliseconds per query against layers run; dots are medians, bars 5 to 95 %."""
    groups: dict[int, list[float]] = {}
    for record in records:
        for run, ms in zip(record.layers_run, record.ms, strict=True):
            groups.setdefault(run, []).append(ms)
    if not groups:
        raise ValueError("these records have no queries: nothing to time")
    fig = figure(8.8, 3.1)
    ax = quiet(fig.add_axes((0.075, 0.155, 0.90, 0.81)))
    for run, values in sorted(groups.items()):
        low, middle, high = np.percentile(values, [5, 50, 95])
        ax.plot([run, run], [low, high], color=ACCENT, linewidth=5, alpha=0.3)
        ax.plot(run, middle, "o", color=ACCENT, markersize=8, markeredgecolor=PAPER)
        label = f"{middle:.1f} ms\nn = {len(values)}"
        note(ax, label, (run, middle), (9, 0), fontsize=9, color=INK, va="center")
    ax.set_xlim(0, max(groups) * 1.15)
    ax.set_ylim(0, 1.08 * max(float(np.percentile(v, 95)) for v in groups.values()))
    ax.set_xticks(sorted({0, *groups}))
    ax.set_xlabel("backbone layers run", color=INK, fontsize=9.5)
    ax.set_ylabel("ms per query", color=INK, fontsize=9.5)
    return svg(fig)


def _dot(ax: Axes, point: ComputePoint, colour: str, name_at: float | None) -> None:
    """One run; its name stands above its interval, or on the right at height ``name_at``."""
    rate, interval = point.score.rate or 0.0, point.score.interval
    x = point.layers or 0.0
    ax.plot([x, x], [interval.low, interval.high], color=colour, linewidth=5, alpha=0.3)
    ax.plot(x, rate, "o", color=colour, markersize=10, markeredgecolor=PAPER, markeredgewidth=1.5)
    bold: dict[str, Any] = {"fontsize": 10, "fontweight": "bold", "color": colour}
    label = f"{rate:.0%} of {point.score.trials}"
    if name_at is not None:
        note(ax, point.label, (x, name_at), (10, 0), va="bottom", **bold)
        note(ax, label, (x, name_at), (10, -1), va="top", **PLAIN)
    else:
        note(ax, point.label, (x, interval.high), (0, 16), ha="center", va="bottom", **bold)
        note(ax, label, (x, interval.high), (0, 4), ha="center", va="bottom", **PLAIN)
