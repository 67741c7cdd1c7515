"""Exit mass against the nominal depths of the paper's exit sets and its closed forms."""

import numpy as np
import pytest

from costep.exits.mass import exit_mass, mean_depth

FOURTEEN, FOUR = tuple(range(1, 28, 2)), (6, 13, 20, 27)


@pytest.mark.parametrize(
    ("c", "fourteen", "four"),
    [
        (1, 16.00, 17.5),
        (0.8, 10.49, 15.57),
        (0.7, 8.41, 14.49),
        (0.4, 5.33, 10.93),
        (0.1, 4.22, 7.77),
    ],
)
def test_nominal_depths_of_the_paper(c, fourteen, four):
    # the fourteen-exit set of the reference gives its first exit no mass
    deep = mean_depth(exit_mass(FOURTEEN, c=c, min_layer=2), FOURTEEN)
    assert deep == pytest.approx(fourteen, abs=0.0051)
    assert mean_depth(exit_mass(FOUR, c=c), FOUR) == pytest.approx(four, abs=0.0051)


def test_families_are_their_equations():
    layers, c = (1, 4, 8, 9, 11), 1.7
    up, down = np.arange(1.0, 6), np.arange(0.0, 5)
    direct = {
        "exponential": c**up,
        "gaussian": np.exp(-((down - c) ** 2) / 2),
        "gamma": up ** (c - 1) * np.exp(-up / 2),
    }
    for family, weight in direct.items():
        np.testing.assert_allclose(exit_mass(layers, family, c), weight / weight.sum(), rtol=1e-12)
    custom = exit_mass(layers, "custom", custom=(1, 0, 2, 0, 1))
    np.testing.assert_allclose(custom, [0.25, 0, 0.5, 0, 0.25])


@pytest.mark.parametrize("family", ["exponential", "gaussian", "gamma"])
@pytest.mark.parametrize("c", [1e-8, 0.3, 1, 7, 400.0])
def test_sums_to_one_in_float64_at_any_c(family, c):
    p = exit_mass(range(28), family, c)
    assert p.dtype == np.float64
    assert np.isfinite(p).all()
    assert p.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", ["exponential", "gaussian", "gamma"])
def test_a_larger_c_leaves_later(family):
    depths = [mean_depth(exit_mass(FOURTEEN, family, c), FOURTEEN) for c in (0.2, 0.9, 1.5, 4, 9)]
    assert depths == sorted(depths)
    assert depths[0] < depths[-1]


def test_min_layer_removes_mass_before_normalising():
    p = exit_mass(FOUR, c=0.5, min_layer=13)
    assert p[0] == 0
    np.testing.assert_allclose(p[1:], np.array([4, 2, 1]) / 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"c": 0.0}, "needs c > 0"),
        ({"c": float("nan")}, "finite"),
        ({"family": "custom", "custom": (1, 2)}, "2 weights for 4"),
        ({"family": "custom"}, "0 weights for 4"),
        ({"family": "custom", "custom": (1, -1, 0, 0)}, ">= 0"),
        ({"family": "custom", "custom": (0, 0, 0, 0)}, "no exit is left"),
        ({"min_layer": 28}, "no exit is left"),
        ({"family": "uniform"}, "expected exponential"),
    ],
)
def test_impossible_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        exit_mass(FOUR, **arguments)
