"""What every picture over time shares: the clock, the gripper's events, and key frames below.

Key frames stand exactly under the moment they show: the strip has the same time axis as the curves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from costep.evaluate.recording import Recording
from costep.inspect.style import MUTED, empty, note

SMALL: dict[str, Any] = {"color": MUTED, "fontsize": 8, "va": "bottom", "ha": "left"}


def key_steps(recording: Recording, count: int) -> list[int]:
    """``count`` evenly spaced steps, each in the middle of its share of the episode."""
    count = max(1, min(count, recording.steps))
    return [int((i + 0.5) * recording.steps / count) for i in range(count)]


def gripper_events(recording: Recording, index: int = -1) -> list[tuple[float, str]]:
    """(time in seconds, "closes" | "opens") wherever the commanded gripper changes sign.

    Environment convention: negative = open, positive = close. The first command is no event.
    """
    if recording.steps == 0:
        return []
    closed = recording.actions[:, index] > 0
    changes = np.flatnonzero(closed[1:] != closed[:-1]) + 1
    return [
        (step / recording.control_hz, "closes" if closed[step] else "opens") for step in changes
    ]


def mark_gripper(ax: Axes, recording: Recording) -> None:
    """Thin vertical lines where the gripper closes or opens, named at the top."""
    last = -np.inf
    for time, what in gripper_events(recording):
        ax.axvline(time, color=MUTED, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1)
        if time - last > 0.09 * recording.seconds:  # names that would touch are left out
            note(ax, f"grip {what}", (time, 1), (3, 1), coords=("data", "axes"), **SMALL)
            last = time


def clock(ax: Axes, recording: Recording) -> None:
    """Seconds along the bottom, at most ten of them, over exactly the length of the episode."""
    step = next((s for s in (0.5, 1, 2, 5, 10) if recording.seconds / s <= 10), 60)
    ticks = np.arange(0, recording.seconds + 1e-9, step)
    ax.set_xticks(ticks, [f"{t:g} s" for t in ticks])
    ax.set_xlim(0, recording.seconds)


def strip(ax: Axes, recording: Recording, camera: str | None = None, count: int = 6) -> None:
    """Key frames of one camera along the time axis of ``ax`` (seconds), as large as they fit."""
    empty(ax)
    ax.set_xlim(0, recording.seconds)
    images = recording.frames[camera or next(iter(recording.frames))]
    box = ax.get_window_extent()
    steps = key_steps(recording, count)
    height, width = images.shape[1:3]
    share = 0.96 * box.width / len(steps)
    scale = min(share / width, box.height / height)
    half = scale * width / box.width * recording.seconds / 2
    tall = scale * height / box.height
    for index, step in enumerate(steps):
        centre = (index + 0.5) * recording.seconds / len(steps)
        extent = (centre - half, centre + half, 1 - tall, 1)
        ax.imshow(images[step], extent=extent, aspect="auto", interpolation="none")
    ax.set_xlim(0, recording.seconds)
    ax.set_ylim(0, 1)
