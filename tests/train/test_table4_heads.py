"""Every head of S2-VLA's table 4 learns two windows by heart, through ``loss`` and ``act``."""

import pytest
import torch
from small_policy import Windows, make_policy, small

from costep.decoders.fast import hold
from costep.types import Observation


def taught(name, steps, rate, repeats=1):
    """(policy, batch, mean absolute error of acting before and after)."""
    config = small(name, exit_supervision="last")
    policy, batch = make_policy(config), Windows(config, samples=2).batch([0, 1] * repeats)
    if not policy.decoder.fitted:
        policy.decoder.fit(batch["actions"], batch["action_valid"])
    before, optimiser = error(policy, batch), torch.optim.Adam(policy.parameters(), rate)
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        policy.loss(batch, random)[0].backward()
        optimiser.step()
        optimiser.zero_grad()
    return policy, batch, before, error(policy, batch)


def act(policy, batch):
    seen = Observation(batch["images"], batch["state"], tuple(batch["instruction"]))
    noise = torch.Generator().manual_seed(0)
    return policy.act(seen, policy.recall(batch), generator=noise)[0].actions


def error(policy, batch):
    return (act(policy, batch) - batch["actions"]).abs().mean().item()


@pytest.mark.parametrize("name", ["oft", "vla_adapter", "s2vla"])
def test_regression(name):
    *_, before, after = taught(name, 150, 3e-3)
    assert after < 0.05 < before / 3


@pytest.mark.parametrize("name", ["pi", "gr00t"])
def test_flow(name):
    *_, before, after = taught(name, 250, 3e-3, repeats=4)
    assert after < 0.3 * before


def test_tokens():
    """What was learned is exactly what the tokens can say."""
    policy, batch, _, after = taught("fast", 60, 3e-3)
    tokenizer = policy.decoder.tokenizer
    rows = tokenizer.encode(hold(batch["actions"], batch["action_valid"]))
    assert torch.equal(act(policy, batch), tokenizer.decode(rows)[0])
    assert after < 0.5 / tokenizer.scale
