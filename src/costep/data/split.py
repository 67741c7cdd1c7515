"""Held-out episodes: chosen once per data set, by episode and within each task, so that no frame is
on both sides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def split_episodes(tasks: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Episode indices (train, heldout) for the task of each episode.

    Each task gives round(fraction * its episodes), at least one when fraction > 0 and it has more
    than one, never all.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction is {fraction}, expected 0 <= fraction < 1")
    tasks_e, rng = np.asarray(tasks), np.random.Generator(np.random.Philox(key=seed))
    heldout: set[int] = set()
    for task in np.unique(tasks_e):
        members = np.flatnonzero(tasks_e == task)
        wanted = max(round(fraction * len(members)), int(fraction > 0))
        heldout |= set(rng.permutation(members)[: min(wanted, len(members) - 1)].tolist())
    return [i for i in range(len(tasks_e)) if i not in heldout], sorted(heldout)
