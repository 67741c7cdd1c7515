"""S2-VLA's gates over an episode (paper, section 4.5 and figure 4).

At a gated layer the belief weighs three branches: the picture (low-level vision), the task (intent
tokens of the backbone) and the motion so far (action self-attention). The three weights sum to one;
a third each is what a network without belief would use. The paper expects vision while aiming,
intent where the subtask switches, action in steady motion.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from costep.evaluate.recording import Recording
from costep.inspect.film import clock, mark_gripper, strip
from costep.inspect.style import (
    ACTION,
    INK,
    INTENT,
    MUTED,
    VISION,
    figure,
    note,
    quiet,
    spread,
    svg,
)

NAME: dict[str, Any] = {"fontsize": 10.5, "fontweight": "bold", "va": "center"}
BRANCHES = (("vision", VISION), ("intent", INTENT), ("action", ACTION))


def gate_figure(
    recording: Recording, layer: int | None = None, camera: str | None = None, frames: int = 7
) -> bytes:
    """SVG: the three gate weights of one head layer against time, key frames along the bottom.

    layer: 1-based head layer; default the deepest gated one of the recording.
    """
    layer = _pick(recording, layer)
    gates = recording.gates[layer]
    times = recording.query_steps / recording.control_hz
    fig = figure(8.8, 4.2)
    ax = quiet(fig.add_axes((0.065, 0.335, 0.845, 0.60)))
    ax.set_ylim(*_limits(gates))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter("{x:.2f}")
    ax.axhline(1 / 3, color=MUTED, linewidth=0.9, linestyle=(0, (5, 4)), zorder=1)
    mark_gripper(ax, recording)
    for (_, colour), column in zip(BRANCHES, gates.T, strict=True):
        ax.plot(times, column, color=colour, linewidth=2.2)
        ax.plot(times, column, "o", color=colour, markersize=4, clip_on=False)
        ax.plot([times[-1], recording.seconds], [column[-1]] * 2, color=colour, linewidth=2.2)
    heights = spread(gates[-1], 0.085 * float(np.ptp(ax.get_ylim())))
    for height, (name, colour) in zip(heights, BRANCHES, strict=True):
        note(ax, name, (1.01, height), coords=("axes", "data"), color=colour, **NAME)
    ax.set_ylabel(f"gate weight, head layer {layer}", color=INK, fontsize=9.5)
    clock(ax, recording)
    strip(fig.add_axes((0.065, 0.0, 0.845, 0.25)), recording, camera, frames)
    return svg(fig)


def _pick(recording: Recording, layer: int | None) -> int:
    if not recording.gates:
        raise ValueError("this recording has no gates: the policy has no belief gate")
    if layer is None:
        return max(recording.gates)
    if layer not in recording.gates:
        raise ValueError(f"layer {layer} is not gated; gated are {sorted(recording.gates)}")
    return layer


def _limits(gates: np.ndarray) -> tuple[float, float]:
    """Room around the data and the equal share, never less than a fifth of the scale."""
    low, high = min(np.nanmin(gates), 1 / 3), max(np.nanmax(gates), 1 / 3)
    pad = max(0.06 * (high - low), (0.2 - (high - low)) / 2, 0.0)
    return max(0.0, low - pad), min(1.0, high + pad)
