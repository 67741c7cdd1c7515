"""The layer draw is a function of (seed, step), reaches every candidate, and the last one."""

from collections import Counter

import pytest
from small_policy import make_policy, small

from costep.train.supervision import layer_at


@pytest.mark.parametrize("kind", ["last", "all"])
def test_only_random_draws(kind):
    policy = make_policy(small(exit_supervision=kind))
    assert layer_at(policy, 0, 3) is None


@pytest.mark.parametrize("name", ["s2vla", "a1_flow"])
def test_every_trainable_layer_is_drawn_evenly(name):
    policy = make_policy(small(name, exit_supervision="random"))
    draws = Counter(layer_at(policy, 0, step) for step in range(1000))
    layers = policy.trainable_layers()
    assert set(draws) == set(layers)
    assert policy.config.layers_run - 1 in draws
    assert all(abs(n - 1000 / len(layers)) < 100 for n in draws.values())


def test_same_step_same_layer_other_seed_other_sequence():
    policy = make_policy(small("a1_flow", exit_supervision="random"))
    sequence = [layer_at(policy, 0, step) for step in range(50)]
    assert sequence == [layer_at(policy, 0, step) for step in range(50)]
    assert sequence != [layer_at(policy, 1, step) for step in range(50)]
    assert len(set(sequence)) > 1
