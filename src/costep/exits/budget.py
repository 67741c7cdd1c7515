"""Budgets: mean depth, FLOPs or ms instead of a mass parameter; and which exits to enable.

    T(e) = vision + (e + 1) layer + sum_{tested e' <= e} (test + (e' + 1) test_layer)

is the cost of leaving at exit e, the probe counted among the tests.  A step head's test is a norm
and a linear (``test`` alone, almost nothing); a flow expert reruns e' + 1 layers K times
(``test_layer``), so that testing often can cost more than it saves.

For each family the mean cost grows with c (monotone likelihood ratio), so bisection finds the c of
a budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costep.exits import quantile
from costep.exits.mass import Family, exit_mass
from costep.flops import exit_costs

MAX_CHOICES = 2**15  # exit sets that the chooser looks at


@dataclass(frozen=True)
class CostTable:
    """Measured or computed unit costs; ``unit`` is printed only ("ms", "GFLOP", "layers").

    vision: paid by every query.  layer: one backbone layer and its head step, or one number per
    layer.
    """

    vision: float
    layer: float | tuple[float, ...]
    test: float = 0.0
    test_layer: float = 0.0
    unit: str = "ms"

    @classmethod
    def fit(cls, exits: Sequence[int], costs: Sequence[float], unit: str = "ms") -> CostTable:
        """The straight line through measured costs of leaving at each exit (two at least).

        The tests on the way end up in ``layer``: right for these exits, too kind to denser ones.
        """
        if len(exits) < 2 or len(exits) != len(costs):
            raise ValueError(
                f"{len(costs)} costs for exits {tuple(exits)}; a line needs two or more"
            )
        layer, vision = np.polyfit(np.asarray(exits) + 1.0, np.asarray(costs, dtype=np.float64), 1)
        return cls(float(vision), float(layer), unit=unit)

    def at(self, exits: Sequence[int], probe: int | None = None) -> NDArray[np.float64]:
        """Cost (n,) of leaving at each of ``exits`` when all of them and the probe are tested on
        the way.
        """
        return np.array(exit_costs(self.vision, self.layer, self.one_test, exits, probe))

    def one_test(self, depth: int) -> float:
        return self.test + depth * self.test_layer


DEPTH = CostTable(vision=0.0, layer=1.0, unit="layers")  # a mean-depth budget


@dataclass(frozen=True)
class Budget:
    """The ``c`` that meets a budget, its mass, and the expected cost under it."""

    c: float
    mass: tuple[float, ...]
    cost: float


def solve_c(
    budget: float,
    layers: Sequence[int],
    costs: ArrayLike,
    family: Family = "exponential",
    *,
    min_layer: int = 0,
    tolerance: float = 1e-6,
) -> Budget:
    """The c whose expected cost sum_i p_i cost_i equals ``budget`` (relative ``tolerance``).

    costs: one per exit of ``layers``, increasing (``CostTable.at``).  Raises ValueError with the
    feasible range when no c reaches the budget.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (len(layers),) or (np.diff(costs) <= 0).any():
        raise ValueError(
            f"costs {costs.tolist()} for exits {tuple(layers)}; expected one each, increasing"
        )
    low, high = _bracket(family)

    def at(x: float) -> Budget:
        c = math.exp(x) if family == "exponential" else x
        p = exit_mass(layers, family, c, min_layer=min_layer)
        return Budget(c, tuple(p.tolist()), float(p @ costs))

    least, most = at(low).cost, at(high).cost
    if not least <= budget <= most:
        raise ValueError(
            f"a budget of {budget:g} is out of reach for exits {tuple(layers)}: the first exit "
            f"costs {least:g}, the last {most:g}; choose a budget between them or other exits"
        )
    while True:
        middle = at(0.5 * (low + high))
        if abs(middle.cost - budget) <= tolerance * budget or high - low < 1e-12:
            return middle
        x = 0.5 * (low + high)
        low, high = (x, high) if middle.cost < budget else (low, x)


def _bracket(family: Family) -> tuple[float, float]:
    """Parameters (log c for the exponential) that put all mass on the first and the last exit."""
    brackets = {
        "exponential": (-50.0, 50.0),
        "gaussian": (-100.0, 200.0),
        "gamma": (-200.0, 1500.0),
    }
    if family not in brackets:
        raise ValueError(
            f"exits.family={family!r} has no c to solve for; use one of {', '.join(brackets)}"
        )
    return brackets[family]


@dataclass(frozen=True)
class ExitChoice:
    """An exit set, its expected cost, and the share of samples at each of its exits."""

    layers: tuple[int, ...]
    cost: float
    shares: tuple[float, ...]


def choose_exits(
    values: ArrayLike,
    thresholds: Sequence[float],
    layers: Sequence[int],
    table: CostTable,
    probe: int | None,
    *,
    min_exits: int = 1,
) -> ExitChoice:
    """The cheapest subset of ``layers`` that stops by the same ``thresholds``, the last exit always
    kept.

    Fewer exits mean fewer tests but later stops.  A kept exit compares with the previous kept one,
    so its discrepancy is bounded by the sum of the rows of V between them: an upper bound for l2,
    mad and max (triangle inequality), a guide for cosine.  The estimate is therefore cautious;
    recalibrate with the chosen set before using it.
    """
    v, n = quantile.checked(values), len(layers)
    if len(v) != n or len(thresholds) != n:
        raise ValueError(
            f"V has {len(v)} rows, {len(thresholds)} thresholds, {n} exits; expected one each"
        )
    if 2 ** (n - 1) > MAX_CHOICES:
        raise ValueError(
            f"{n} exits have {2 ** (n - 1)} subsets, more than {MAX_CHOICES}; preselect some exits"
        )
    eta = np.asarray(thresholds, dtype=np.float32)
    best: list[ExitChoice] = []

    def extend(kept: tuple[int, ...], waiting: NDArray[np.float32], gone: tuple[int, ...]) -> None:
        """Try every next exit after ``kept`` (row numbers); ``waiting`` are the columns of V still
        running.
        """
        first = kept[-1] + 1 if kept else 0
        for i in range(first, n):
            stops = (
                waiting[first : i + 1].sum(0) <= eta[i]
                if i < n - 1
                else np.ones(waiting.shape[1], dtype=bool)
            )
            path, left = (*kept, i), (*gone, int(stops.sum()))
            if i < n - 1:
                extend(path, waiting[:, ~stops], left)
            elif len(path) >= min_exits:
                best.append(_choice(path, left, layers, table, probe))

    extend((), v, ())
    if not best:
        raise ValueError(f"min_exits={min_exits} exceeds the {n} exits {tuple(layers)}; lower it")
    return min(best, key=lambda choice: choice.cost)


def _choice(
    rows: tuple[int, ...],
    counts: tuple[int, ...],
    layers: Sequence[int],
    table: CostTable,
    probe: int | None,
) -> ExitChoice:
    kept = tuple(layers[i] for i in rows)
    share = np.asarray(counts, dtype=np.float64) / sum(counts)
    return ExitChoice(kept, float(share @ table.at(kept, probe)), tuple(share.tolist()))
