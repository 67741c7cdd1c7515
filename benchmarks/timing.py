"""Timing on machines that are not quiet: cases take turns, and ratios are taken round by round.

What disturbs one case disturbs its neighbours in the same round, so the median of the ratios within
rounds stays true when the milliseconds do not.  Two clocks run: the wall, and the processor time of
this thread, which waiting for other programs does not lengthen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one case, round by round: wall (R,), thread (R,)."""

    wall: np.ndarray
    thread: np.ndarray

    def percentiles(self) -> dict[str, float]:
        """p50, p95, p99 and the minimum of the wall clock."""
        values = np.percentile(self.wall, PERCENTILES)
        named = {f"p{q}": round(float(v), 4) for q, v in zip(PERCENTILES, values)}
        return {**named, "min": round(float(self.wall.min()), 4)}


def interleaved(
    cases: Mapping[str, Callable[[int], object]], rounds: int, warmup: int
) -> dict[str, Timed]:
    """Run every case once per round; a case is given the number of its round.

    A case must not return before its result is on the host.  ``warmup`` rounds are not recorded.
    """
    wall = {name: np.zeros(rounds) for name in cases}
    thread = {name: np.zeros(rounds) for name in cases}
    for index in range(-warmup, rounds):
        for name, case in cases.items():
            begin, worked = time.perf_counter(), time.thread_time()
            case(index)
            if index >= 0:
                thread[name][index] = (time.thread_time() - worked) * 1e3
                wall[name][index] = (time.perf_counter() - begin) * 1e3
    return {name: Timed(wall[name], thread[name]) for name in cases}


def median_with_interval(values: np.ndarray, draws: int = 2000) -> tuple[float, float, float]:
    """Median, and its percentile-bootstrap 95 % interval; seeded."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (draws, len(values))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)
