"""Flow time: what the frequencies resolve, and the noisy action embedding by hand."""

import math

import torch
import torch.nn.functional as F

from costep.nn.time import NoisyActionEmbedding, embed_time


def test_periods_run_from_4e_3_to_4():
    t = torch.tensor([0.3])
    e = embed_time(t, 8)[0].double()
    periods = [4e-3, 4e-2, 4e-1, 4.0]
    for j, p in enumerate(periods):
        angle = 2 * math.pi * 0.3 / p
        assert abs(e[j] - math.sin(angle)) < 1e-3
        assert abs(e[4 + j] - math.cos(angle)) < 1e-3


def test_the_reference_form_is_nearly_blind():
    """At most one radian over [0, 1]: effective rank about 2 (a1 section 4)."""
    t = torch.linspace(0, 1, 101)
    rank = {
        form: int((torch.linalg.svdvals(embed_time(t, 64, form)) > 0.5).sum())
        for form in ("reference", "periods")
    }
    assert rank["reference"] <= 3
    assert rank["periods"] > 20
    half = torch.exp(-math.log(1e4) * torch.arange(32) / 31)
    assert torch.allclose(embed_time(t, 64, "reference")[:, :32], (t[:, None] * half).sin())


def test_flow_steps_are_told_apart():
    e = embed_time(torch.tensor([1.0, 0.9]), 64)
    assert (e[0] - e[1]).norm() > 1


def test_noisy_actions_by_hand():
    embed = NoisyActionEmbedding(7, 12, "periods")
    x, t = torch.randn(2, 4, 7), torch.tensor([0.2, 0.9])
    a = embed.action(x)
    joined = torch.cat([a, embed_time(t, 12)[:, None].repeat(1, 4, 1)], -1)
    w1, w2 = embed.mix[0], embed.mix[2]
    h = F.silu(joined @ w1.weight.T + w1.bias)
    assert torch.allclose(embed(x, t), h @ w2.weight.T + w2.bias, atol=1e-6)
