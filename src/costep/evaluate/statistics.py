"""Intervals and tests for success rates: small, pure, and free of SciPy.

A success rate without an interval says little: 19 of 20 is anything from 76 % to 99 %. Four tools
cover what robot evaluations need:

- ``wilson``          interval of one success rate (Wilson 1927, the score interval),
- ``mcnemar``         exact test of two policies on the *same* episodes (McNemar 1947, binomial),
- ``newcombe_paired`` interval of the difference of those two rates (Newcombe 1998, method 10),
- ``bootstrap_ratio`` percentile interval of a ratio of sums, resampling whole episodes.

The tests compare every one of them with an independent reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A confidence interval ``[low, high]`` at ``level``."""

    low: float
    high: float
    level: float = 0.95

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals share at least one point."""
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class PairTable:
    """Outcomes of two policies A and B on the same episodes.

    ``only_a`` counts episodes that A solved and B did not; the two discordant cells carry all the
    information about which policy is better.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    @property
    def total(self) -> int:
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Success rate of A minus success rate of B."""
        return (self.only_a - self.only_b) / self.total


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Wilson score interval of ``successes / trials``; ``[0, 1]`` when nothing was tried.

    Centre ``(p + z^2/2n) / (1 + z^2/n)``, half width
    ``z / (1 + z^2/n) * sqrt(p(1-p)/n + z^2/4n^2)``.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie in 0..{trials} (the trials), got {successes}")
    if trials == 0:
        return Interval(0.0, 1.0, level)
    z, p = _quantile(level), successes / trials
    shrink = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else centre - half  # exact ends: no 1e-17 below zero
    high = 1.0 if successes == trials else centre + half
    return Interval(low, high, level)


def pair_table(a: Sequence[bool], b: Sequence[bool]) -> PairTable:
    """The 2x2 table of two aligned outcome lists."""
    if len(a) != len(b):
        raise ValueError(f"paired outcomes need equal lengths, got {len(a)} and {len(b)}")
    if len(a) == 0:
        raise ValueError("paired outcomes are empty: the two runs share no episode")
    cells = [(bool(x), bool(y)) for x, y in zip(a, b, strict=True)]
    return PairTable(
        both=cells.count((True, True)),
        only_a=cells.count((True, False)),
        only_b=cells.count((False, True)),
        neither=cells.count((False, False)),
    )


def mcnemar(table: PairTable) -> float:
    """Two-sided exact p-value: under H0 each discordant episode is a fair coin.

    ``p = min(1, 2 P[Bin(b + c, 1/2) <= min(b, c)])`` with b, c the discordant counts.
    """
    discordant = table.only_a + table.only_b
    smaller = min(table.only_a, table.only_b)
    tail = sum(math.comb(discordant, k) for k in range(smaller + 1))
    return min(1.0, 2 * tail / 2**discordant)


def newcombe_paired(table: PairTable, level: float = 0.95) -> Interval:
    """Interval of the paired difference p_A - p_B (Newcombe 1998, method 10).

    Wilson intervals of the two marginal rates are joined through the (continuity corrected) phi
    coefficient; never leaves [-1, 1] and keeps its width when no episode is discordant.
    """
    n = table.total
    a, b = table.both + table.only_a, table.both + table.only_b
    wa, wb = wilson(a, n, level), wilson(b, n, level)
    down_a, up_a = a / n - wa.low, wa.high - a / n
    down_b, up_b = b / n - wb.low, wb.high - b / n
    phi = _phi(table)
    below = math.sqrt(max(0.0, down_a**2 - 2 * phi * down_a * up_b + up_b**2))
    above = math.sqrt(max(0.0, up_a**2 - 2 * phi * up_a * down_b + down_b**2))
    return Interval(table.difference - below, table.difference + above, level)


def bootstrap_mean(
    values: Sequence[float], level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Seeded percentile bootstrap of the mean."""
    return bootstrap_ratio(values, [1.0] * len(values), level, resamples, seed)


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Seeded percentile bootstrap of ``sum(numerators) / sum(denominators)``.

    One entry per episode: queries of one episode resemble each other, so whole episodes are
    resampled. Example: layers run and layers available, summed per episode.
    """
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    if top.shape != bottom.shape or top.ndim != 1 or top.size == 0:
        raise ValueError(f"need two equal, non-empty lists, got {top.shape} and {bottom.shape}")
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, top.size, size=(resamples, top.size))
    ratios = top[picks].sum(1) / bottom[picks].sum(1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def _quantile(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _phi(table: PairTable) -> float:
    """Newcombe's phi: the correlation of the two outcomes, corrected towards zero."""
    n = table.total
    a, b = table.both + table.only_a, table.both + table.only_b
    spread = a * (n - a) * b * (n - b)
    if spread == 0:
        return 0.0
    cross = table.both * table.neither - table.only_a * table.only_b
    corrected = max(cross - n / 2, 0.0) if cross > 0 else cross
    return corrected / math.sqrt(spread)
