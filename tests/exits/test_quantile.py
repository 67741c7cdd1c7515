"""Filtered quantiles against the worked example, a slow loop and the share guarantees."""

import logging
import math
from fractions import Fraction

import numpy as np
import pytest

from costep.exits.mass import exit_mass
from costep.exits.quantile import ALWAYS, NEVER, assign, shares, thresholds

V1 = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4]
V2 = [0.6, 0.05, 0.3, 0.3, 0.2, 0.1, 0.9, 0.7]
RULES = ("carry", "count", "literal")


@pytest.mark.parametrize(
    ("rule", "eta", "leaving"), [("count", (0.2, 0.3), (2, 3, 3)), ("carry", (0.3, 0.3), (3, 2, 3))]
)
def test_worked_example(rule, eta, leaving):
    v = [V1, V2, [0.0] * 8]
    got = thresholds(v, [1 / 3] * 3, rule)
    assert got == (*map(lambda t: float(np.float32(t)), eta), ALWAYS)
    np.testing.assert_allclose(shares(assign(v, got), 3) * 8, leaving)


def slow(v, p, rule):
    """Sample by sample, with sets and exact fractions; returns thresholds and who left where."""
    n, inside = len(v[0]), set(range(len(v[0])))
    eta, taken = [], {}
    for i in range(len(v) - 1):
        share = [Fraction(x).limit_denominator(10**9) for x in p]
        m = {
            "count": math.floor(n * share[i]),
            "carry": math.floor(n * sum(share[: i + 1]) + Fraction(1, 2)) - (n - len(inside)),
            "literal": math.floor(len(inside) * share[i]),
        }[rule]
        ordered = sorted(v[i][k] for k in inside)
        eta.append(ordered[min(m, len(ordered)) - 1] if m > 0 and ordered else -math.inf)
        for k in list(inside):
            if v[i][k] <= eta[-1]:
                taken[k] = i
                inside.remove(k)
    taken.update(dict.fromkeys(inside, len(v) - 1))
    return (*eta, math.inf), [taken[k] for k in range(n)]


@pytest.mark.parametrize("rule", RULES)
def test_equals_a_slow_loop_on_random_matrices_with_ties(rule):
    rng = np.random.default_rng(5)
    for _ in range(150):
        exits, n = int(rng.integers(1, 6)), int(rng.integers(1, 40))
        levels = int(rng.choice([2, 5, 1000]))  # few levels: many ties
        v = (rng.integers(0, levels, (exits, n)) / levels).astype(np.float32)
        weight = rng.integers(0, 5, exits) + (np.arange(exits) == exits - 1)
        p = weight / weight.sum()
        eta, taken = slow(v.tolist(), p.tolist(), rule)
        got = thresholds(v, p, rule)
        assert got == eta
        assert assign(v, got).tolist() == taken


@pytest.mark.parametrize("c", [0.1, 0.4, 0.7, 1.0, 1.3])
@pytest.mark.parametrize("n", [7, 64, 1001])
def test_carry_shares_are_within_one_sample(c, n):
    v = np.random.default_rng(n).permuted(np.tile(np.arange(n, dtype=np.float32), (14, 1)), axis=1)
    p = exit_mass(range(1, 28, 2), c=c, min_layer=2)
    got = shares(assign(v, thresholds(v, p)), 14)
    assert np.abs(got - p).max() <= 1 / n + 1e-12


def test_carry_repays_ties_at_the_next_exit():
    v = np.stack([np.r_[np.zeros(40), np.arange(1, 61)], np.arange(100.0), np.zeros(100)])
    got = shares(assign(v, thresholds(v, [0.2, 0.4, 0.4])), 3)
    np.testing.assert_allclose(got, [0.4, 0.2, 0.4])  # 20 too many, 20 fewer next
    count = shares(assign(v, thresholds(v, [0.2, 0.4, 0.4], "count")), 3)
    np.testing.assert_allclose(count, [0.4, 0.4, 0.2])


def test_products_are_floored_with_a_guard():
    v = np.stack([np.arange(100.0)] * 2)  # 100 * 0.29 is 28.999999999999996
    assert shares(assign(v, thresholds(v, [0.29, 0.71], "count")), 2)[0] == 0.29


def test_never_and_always():
    v = np.stack([np.arange(10.0)] * 3)
    eta = thresholds(v, [0.0, 0.5, 0.5])
    assert eta[0] == NEVER == -math.inf
    assert eta[-1] == ALWAYS == math.inf
    assert thresholds(v, [0.04, 0.5, 0.46], "count")[0] == NEVER  # floor(0.4) = 0, said openly
    assert assign(v, (NEVER, NEVER, ALWAYS)).tolist() == [2] * 10
    assert assign(v, (ALWAYS, NEVER, ALWAYS)).tolist() == [0] * 10
    assert assign(v, (NEVER, NEVER, 0.0)).tolist() == [2] * 10  # the last exit takes what is left


def test_an_empty_rest_is_reported_and_never_stops(caplog):
    v = np.zeros((3, 20))
    with caplog.at_level(logging.WARNING):
        eta = thresholds(v, [1 / 3] * 3)
    assert eta == (0.0, NEVER, ALWAYS)
    assert "all 20 samples leave" in caplog.text


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_an_error(bad):
    v = np.ones((2, 4))
    v[1, 2] = bad
    with pytest.raises(ValueError, match=r"V\[1, 2\]"):
        thresholds(v, [0.5, 0.5])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="3 entries"):
        thresholds(np.ones((2, 4)), [0.3, 0.3, 0.4])
    with pytest.raises(ValueError, match="3 thresholds"):
        assign(np.ones((2, 4)), (0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="shape"):
        thresholds(np.ones((2, 0)), [0.5, 0.5])
    with pytest.raises(ValueError, match="expected carry"):
        thresholds(np.ones((2, 4)), [0.5, 0.5], "exact")
