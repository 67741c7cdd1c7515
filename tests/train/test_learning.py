"""A policy can learn: two windows are memorised through the whole training loop."""

from dataclasses import replace

import pytest
from small_policy import Windows, make_contract, make_policy, small

from costep.train.loop import train
from costep.train.options import TrainOptions


def overfit(out, name, steps):
    config = small(name, lr_backbone=3e-3, lr_head=3e-3)
    config = replace(config, train=replace(config.train, warmup=20))
    options = TrainOptions(
        out, steps, batch_size=8, precision="fp32", device="cpu", checkpoint_every=0,
        tensorboard=False,
    )  # fmt: skip
    return train(make_policy(config), Windows(config, samples=2), options, make_contract()).losses


def test_two_windows_are_memorised(tmp_path):
    assert final(overfit(tmp_path, "s2vla", 260)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", ["composed", "focusvla", "vla_adapter", "oft", "a1_mlp"])
def test_every_regression_memorises_two_windows(tmp_path, name):
    assert final(overfit(tmp_path, name, 500)) < 0.02


def final(losses):
    return sum(losses[-10:]) / 10


@pytest.mark.slow
def test_a_flow_fits_two_windows(tmp_path):
    """The flow loss keeps the variance of its noise; it falls well below its start, not to zero."""
    losses = overfit(tmp_path, "a1_flow", 800)
    assert sum(losses[-50:]) / 50 < 0.1 * losses[0]
