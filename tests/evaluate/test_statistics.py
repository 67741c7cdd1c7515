"""Every statistic against an independent reference (SciPy, published values, brute force)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from costep.evaluate import statistics as st

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 30), (1, 7), (19, 20), (30, 30), (482, 500)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_wilson_equals_scipy(k: int, n: int, level: float) -> None:
    want = scipy_stats.binomtest(k, n).proportion_ci(level, method="wilson")
    got = st.wilson(k, n, level)
    assert (got.low, got.high) == pytest.approx((want.low, want.high), abs=1e-12)


def test_wilson_stays_inside_and_knows_nothing_without_trials() -> None:
    assert st.wilson(0, 0) == st.Interval(0.0, 1.0)
    assert st.wilson(0, 5).low == 0.0
    assert st.wilson(5, 5).high == 1.0
    with pytest.raises(ValueError, match=r"0\.\.5"):
        st.wilson(6, 5)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 3), (12, 2), (0, 9), (30, 55)])
def test_mcnemar_equals_binomial_test(b: int, c: int) -> None:
    table = st.PairTable(both=11, only_a=b, only_b=c, neither=4)
    want = scipy_stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert st.mcnemar(table) == pytest.approx(want, abs=1e-12)
    assert st.mcnemar(table) == st.mcnemar(st.PairTable(0, c, b, 0))  # concordant pairs are silent


def test_newcombe_reproduces_the_published_example() -> None:
    """Newcombe 1998: cells 36, 12, 2, 0 -> 0.0569 to 0.3404 (method 10)."""
    got = st.newcombe_paired(st.PairTable(36, 12, 2, 0))
    assert (got.low, got.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@pytest.mark.parametrize(
    "cells", [(20, 12, 2, 16), (53, 16, 8, 9), (10, 6, 4, 5), (2, 9, 8, 1), (30, 0, 0, 0)]
)
def test_newcombe_equals_the_written_formula(cells: tuple[int, ...]) -> None:
    """The paper's a, b, c, d, with the correction of phi by n / 2, spelt out once more."""
    a, b, c, d = cells
    n = sum(cells)
    l2, u2 = scipy_stats.binomtest(a + b, n).proportion_ci(0.95, "wilson")
    l3, u3 = scipy_stats.binomtest(a + c, n).proportion_ci(0.95, "wilson")
    p2, p3, top = (a + b) / n, (a + c) / n, a * d - b * c
    top = top - n / 2 if top > n / 2 else min(top, 0)
    bottom = (a + b) * (c + d) * (a + c) * (b + d)
    phi = top / bottom**0.5 if bottom else 0
    low = p2 - p3 - ((p2 - l2) ** 2 - 2 * phi * (p2 - l2) * (u3 - p3) + (u3 - p3) ** 2) ** 0.5
    high = p2 - p3 + ((u2 - p2) ** 2 - 2 * phi * (u2 - p2) * (p3 - l3) + (p3 - l3) ** 2) ** 0.5
    got = st.newcombe_paired(st.PairTable(*cells))
    assert (got.low, got.high) == pytest.approx((low, high), abs=1e-12)


def test_newcombe_is_antisymmetric_and_bounded() -> None:
    for cells in itertools.product(range(4), repeat=4):
        if sum(cells) == 0:
            continue
        both, a, b, neither = cells
        here = st.newcombe_paired(st.PairTable(both, a, b, neither))
        swapped = st.newcombe_paired(st.PairTable(both, b, a, neither))
        assert here.low == pytest.approx(-swapped.high)
        assert here.high == pytest.approx(-swapped.low)
        assert -1 - 1e-9 <= here.low <= here.high <= 1 + 1e-9


def test_pair_table_counts_cells() -> None:
    table = st.pair_table([True, True, False, False, True], [True, False, True, False, False])
    assert table == st.PairTable(both=1, only_a=2, only_b=1, neither=1)
    assert table.difference == pytest.approx(3 / 5 - 2 / 5)
    with pytest.raises(ValueError, match="share no episode"):
        st.pair_table([], [])
    with pytest.raises(ValueError, match="equal lengths"):
        st.pair_table([True], [])


def test_bootstrap_mean_agrees_with_scipy_and_is_seeded() -> None:
    values = np.random.default_rng(3).exponential(size=60)
    got = st.bootstrap_mean(values, seed=1)
    want = scipy_stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=0.03)
    assert got == st.bootstrap_mean(values, seed=1) != st.bootstrap_mean(values, seed=2)


def test_bootstrap_ratio_resamples_whole_episodes() -> None:
    """Long episodes weigh more: the ratio of sums, not the mean of ratios."""
    middle = st.bootstrap_ratio([90.0, 1.0], [100.0, 10.0], level=0.2)
    assert (middle.low, middle.high) == pytest.approx((91 / 110, 91 / 110))
    wide = st.bootstrap_ratio([90.0, 1.0], [100.0, 10.0])
    assert (wide.low, wide.high) == pytest.approx((0.1, 0.9))
    with pytest.raises(ValueError, match="non-empty"):
        st.bootstrap_ratio([], [])


def test_bootstrap_coverage_is_near_nominal() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        interval = st.bootstrap_mean(rng.normal(size=40), resamples=400, seed=trial)
        hits += interval.low <= 0.0 <= interval.high
    assert hits / 200 == pytest.approx(0.95, abs=0.05)


def test_overlap() -> None:
    assert st.Interval(0.1, 0.5).overlaps(st.Interval(0.5, 0.9))
    assert not st.Interval(0.1, 0.4).overlaps(st.Interval(0.5, 0.9))
