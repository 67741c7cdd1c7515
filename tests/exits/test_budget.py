"""Budgets and the exit-set chooser, against brute force."""

from itertools import combinations

import numpy as np
import pytest

from costep.exits import quantile
from costep.exits.budget import DEPTH, CostTable, choose_exits, solve_c
from costep.exits.mass import exit_mass, mean_depth

LAYERS = (6, 13, 20, 27)
FLOW = CostTable(vision=1.0, layer=0.2, test=0.05, test_layer=0.02)


def test_cost_of_an_exit():
    # vision + 7 layers + tests after 4 (probe), then 7 layers
    assert FLOW.at((6,), probe=3)[0] == pytest.approx(1 + 7 * 0.2 + 2 * 0.05 + 11 * 0.02)
    assert FLOW.at((6, 13), probe=None)[1] == pytest.approx(1 + 14 * 0.2 + 2 * 0.05 + 21 * 0.02)
    uneven = CostTable(vision=1.0, layer=(0.1, 0.2, 0.3, 0.4))
    np.testing.assert_allclose(uneven.at((1, 3)), [1.3, 2.0])


def test_a_line_through_measured_costs():
    table = CostTable.fit(LAYERS, [2 + 0.3 * (e + 1) for e in LAYERS])
    assert (table.vision, table.layer) == (pytest.approx(2), pytest.approx(0.3))
    with pytest.raises(ValueError, match="two or more"):
        CostTable.fit((27,), [10.0])


@pytest.mark.parametrize("family", ["exponential", "gaussian", "gamma"])
@pytest.mark.parametrize("budget", [7.5, 14.0, 17.5, 26.0])
def test_solves_a_mean_depth(family, budget):
    found = solve_c(budget, LAYERS, DEPTH.at(LAYERS), family)
    assert found.cost == pytest.approx(budget, rel=1e-6)
    p = exit_mass(LAYERS, family, found.c)
    np.testing.assert_allclose(found.mass, p)
    assert mean_depth(p, LAYERS) == pytest.approx(budget, rel=1e-6)


def test_solves_milliseconds_with_tests_counted():
    costs = FLOW.at(LAYERS, probe=3)
    found = solve_c(6.0, LAYERS, costs, min_layer=7)
    assert found.mass[0] == 0
    assert np.dot(found.mass, costs) == pytest.approx(6.0, rel=1e-6)


def test_known_c_is_recovered():
    assert solve_c(17.5, LAYERS, DEPTH.at(LAYERS)).c == pytest.approx(1.0, abs=1e-5)


def test_impossible_budgets_name_the_range():
    with pytest.raises(ValueError, match="costs 7, the last 28"):
        solve_c(5.0, LAYERS, DEPTH.at(LAYERS))
    with pytest.raises(ValueError, match="no c to solve"):
        solve_c(14.0, LAYERS, DEPTH.at(LAYERS), "custom")
    with pytest.raises(ValueError, match="increasing"):
        solve_c(14.0, LAYERS, [4, 3, 2, 1])


def brute_force(v, eta, layers, table, probe):
    """Every subset, every sample, in plain loops."""
    best = (np.inf, ())
    last = len(layers) - 1
    for size in range(len(layers)):
        for head in combinations(range(last), size):
            rows, total = (*head, last), 0.0
            costs = table.at([layers[i] for i in rows], probe)
            for n in range(v.shape[1]):
                before = 0
                for cost, i in zip(costs, rows):
                    if i == last or v[before : i + 1, n].sum() <= np.float32(eta[i]):
                        total += cost
                        break
                    before = i + 1
            best = min(best, (total / v.shape[1], tuple(layers[i] for i in rows)))
    return best


@pytest.mark.parametrize("table", [FLOW, CostTable(1.0, 0.2), CostTable(1.0, 0.2, test=1.5)])
def test_chooser_finds_the_cheapest_subset(table, record):
    v, _, _ = record(episodes=4, queries=20, exits=5)
    layers = (3, 9, 15, 21, 27)
    eta = quantile.thresholds(v, exit_mass(layers, c=0.8))
    cost, kept = brute_force(v, eta, layers, table, 1)
    choice = choose_exits(v, eta, layers, table, 1)
    assert choice.cost == pytest.approx(cost)
    assert choice.layers == kept
    assert sum(choice.shares) == pytest.approx(1)


def test_dear_tests_leave_fewer_exits(record):
    v, _, _ = record(exits=5)
    layers = (3, 9, 15, 21, 27)
    eta = quantile.thresholds(v, exit_mass(layers, c=0.8))
    free = choose_exits(v, eta, layers, CostTable(1.0, 0.2), 1)
    dear = choose_exits(v, eta, layers, CostTable(1.0, 0.2, test=50.0), 1)
    assert len(free.layers) > len(dear.layers) == 1
    assert (
        len(choose_exits(v, eta, layers, CostTable(1.0, 0.2, test=50.0), 1, min_exits=3).layers)
        == 3
    )


def test_chooser_refuses_what_it_cannot_search():
    with pytest.raises(ValueError, match="preselect"):
        choose_exits(np.ones((20, 3)), [1.0] * 20, range(20), DEPTH, None)
    with pytest.raises(ValueError, match="expected one each"):
        choose_exits(np.ones((3, 3)), [1.0] * 2, range(3), DEPTH, None)
    with pytest.raises(ValueError, match="min_exits=5"):
        choose_exits(np.ones((3, 3)), [1.0] * 3, range(3), DEPTH, None, min_exits=5)
