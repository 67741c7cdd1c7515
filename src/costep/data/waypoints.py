"""Hindsight waypoints of recorded episodes: where the hand was at the next gripper events after
each frame.

A gripper event is a frame whose gripper command differs from the frame before; the last frame of an
episode counts as one. Labels for :mod:`costep.heads.waypoint`, taken from the recording alone.
"""

from __future__ import annotations

import numpy as np


def next_events(
    gripper_N: np.ndarray, stops: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of the next ``count`` events after every frame, (N, count), and whether there is
    such an event.

    gripper_N: (N,) command.  stops: (N,) end (exclusive) of each frame's episode.
    """
    rows = np.arange(len(gripper_N))
    first = np.r_[True, stops[1:] != stops[:-1]]
    toggled = np.r_[False, (gripper_N[1:] >= 0.5) != (gripper_N[:-1] >= 0.5)] & ~first
    events = np.flatnonzero(toggled | (rows == stops - 1))
    position = np.searchsorted(events, rows, side="right")[:, None] + np.arange(count)
    found = events[np.minimum(position, len(events) - 1)]
    valid = (position < len(events)) & (found < stops[:, None]) & (found > rows[:, None])
    return np.where(valid, found, rows[:, None]), valid


def offsets(
    position_N3: np.ndarray, gripper_N: np.ndarray, stops: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hand positions at the next events relative to now, (N, count, 3) float32, 0 where not valid
    (N, count).
    """
    rows, valid = next_events(gripper_N, stops, count)
    return (position_N3[rows] - position_N3[:, None]).astype(np.float32), valid
