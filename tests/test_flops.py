"""FLOP formulas against torch's own counter and against the paper's cost table."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from costep import flops
from costep.exits.controller import ExitRule
from costep.policy import Policy
from costep.presets import preset
from costep.types import Observation

LAYERS = (1, 2, 3, 4, 5)
S, CROPS, GIGA = 680, 5, 1e9  # what the paper's table was computed with


def vision():
    return CROPS * flops.molmo_crop()


def test_the_cost_table_of_a1():
    """CLIP, language model, MLP and the four totals within 0.05 % of the paper; the flow cells are
    ours, with a reason.
    """
    rows = {row.name: row for row in flops.cost_table()}
    assert len(rows) == 10
    agreed = {name for name, row in rows.items() if abs(row.relative) <= 5e-4}
    assert rows.keys() - agreed == {"flow step", "flow, 10 steps"}
    assert all(bool(row.note) == (name not in agreed) for name, row in rows.items())
    assert rows["flow step"].ours == pytest.approx(5.568, abs=5e-4)
    assert rows["flow, 10 steps"].ours == pytest.approx(55.68, abs=5e-3)
    assert rows["flow step"].paper == 0.493
    assert "tenth" in rows["flow step"].note
    paper = {name: row.paper for name, row in rows.items()}
    gap = paper["A1-FM, 10 steps"] - paper["CLIP, five crops"] - paper["language model, 28 layers"]
    assert gap == pytest.approx(rows["flow, 10 steps"].ours, rel=5e-3)  # the paper's own totals


def test_parts_of_a1():
    assert flops.QWEN2_7B.weights == 233_046_016
    assert flops.A1_EXPERT.weights == 9_437_184
    assert flops.molmo_crop() / GIGA == pytest.approx(402.5, rel=1e-4)
    assert flops.molmo_crop() - flops.molmo_crop(22) == flops.CLIP_L.flops(577)
    assert flops.a1_mlp_head() / GIGA == pytest.approx(1.850, rel=1e-3)
    # ten times what the paper prints
    assert flops.expert_pass(28, S) / GIGA == pytest.approx(5.568, abs=5e-4)
    assert flops.expert_pass(28, S, action_dim=32) / GIGA == pytest.approx(5.569, abs=5e-4)


def test_deployed_with_two_cameras_a1_costs_half():
    tokens = flops.a1_tokens(2)
    assert tokens == 352
    assert flops.QWEN2_7B.flops(tokens) / GIGA == pytest.approx(165.84, abs=0.01)
    ten_steps = 10 * flops.expert_pass(28, tokens, chunk=10)
    assert ten_steps / GIGA == pytest.approx(63.97, abs=0.01)
    everything = 2 * flops.molmo_crop() + 28 * flops.QWEN2_7B.flops(tokens) + ten_steps
    assert everything / GIGA == pytest.approx(5511, rel=1e-3)


@pytest.mark.parametrize(
    ("executed", "layers", "everything"),
    [(0.844, 15.6, 12.8), (0.609, 39.1, 31.9), (0.415, 58.5, 47.9), (0.235, 76.5, 62.6)],
)
def test_both_accountings_of_table_5(executed, layers, everything):
    saved = flops.savings(executed, vision(), 28 * flops.QWEN2_7B.flops(S))
    assert 100 * saved.layers == pytest.approx(layers, abs=0.06)
    assert 100 * saved.total == pytest.approx(everything, abs=0.1)


def test_step_heads():
    adapter = 24 * flops.step_head_layer(896, steps=8, conditions=577)
    assert adapter / GIGA == pytest.approx(46.5, rel=5e-3)  # VLA-Adapter, two cameras
    s2 = 24 * flops.step_head_layer(2048, steps=8, conditions=193)
    assert s2 / GIGA == pytest.approx(87, rel=2e-2)


def test_exit_costs_add_up():
    costs = flops.exit_costs(100.0, 10.0, lambda depth: depth, exits=(1, 3), probe=0)
    assert costs == (100 + 20 + 1 + 2, 100 + 40 + 1 + 2 + 4)
    uneven = flops.exit_costs(0.0, (1, 2, 3, 4), lambda depth: 0, exits=(1, 3))
    assert uneven == (3, 10)


# ---- against torch ----------------------------------------------------------------------------


def attend(x_sd, memory_cd, w, heads, kv_heads, head_dim):
    """Plain attention of x on [memory, x]; only x's keys and values are projected."""
    s, c = x_sd.shape[0], memory_cd.shape[0]
    q = (x_sd @ w["q"]).view(s, heads, head_dim).transpose(0, 1)
    k, v = ((x_sd @ w[n]).view(s, kv_heads, head_dim).transpose(0, 1) for n in "kv")
    cached = torch.randn(kv_heads, c, head_dim)
    k, v = (torch.cat([cached, t], 1).repeat_interleave(heads // kv_heads, 0) for t in (k, v))
    weights = torch.bmm(q, k.transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, v).transpose(0, 1).reshape(s, -1) @ w["o"]


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("head_dim", [None, 24])
def test_transformer_layer_equals_the_counter(gated, head_dim):
    layer = flops.TransformerLayer(64, 160, heads=4, kv_heads=2, head_dim=head_dim, gated=gated)
    dim = head_dim or 16
    w = {n: torch.randn(64, k * dim) for n, k in (("q", 4), ("k", 2), ("v", 2))}
    w["o"] = torch.randn(4 * dim, 64)
    up, down = torch.randn(64, 160), torch.randn(160, 64)

    def run():
        x = attend(torch.randn(11, 64), torch.randn(29, 64), w, 4, 2, dim)
        hidden = F.silu(x @ up) * (x @ up) if gated else F.gelu(x @ up)
        hidden @ down

    assert layer.flops(11, context=29) == flops.counted(run)


def test_a_policy_pays_for_the_layers_that_it_runs():
    config = preset("focusvla", "tiny")
    policy, size = Policy(config).eval(), config.backbone.sizes.pixels
    images = {c: torch.zeros(1, 3, size, size, dtype=torch.uint8) for c in config.cameras}
    observation = Observation(images, torch.zeros(1, config.state_dim), ("lift the cup",))
    costs = [
        flops.counted(lambda e=e: policy.act(observation, exits=ExitRule.forced(LAYERS, e)))
        for e in LAYERS
    ]
    per_layer = [b - a for a, b in pairwise(costs)]
    assert max(per_layer) == min(per_layer) > 0
    readout = flops.counted(lambda: policy.act(observation, exits=ExitRule.forced(LAYERS, 5)))
    alone = flops.counted(lambda: policy.act(observation))
    assert 1 < readout / alone < 1.001  # five more readings of a step head cost next to nothing


def test_step_head_layer_equals_the_counter():
    d, steps, conditions = 32, 5, 17

    def run():
        w, x, tap = torch.randn(d, d), torch.randn(steps, d), torch.randn(conditions, d)
        keys, values = torch.cat([x @ w, tap @ w]), torch.cat([x @ w, tap @ w])
        mixed = ((x @ w) @ keys.T).softmax(-1) @ values
        fused = torch.cat([mixed] * 3, -1) @ torch.randn(3 * d, d)
        (fused * (x @ w)) @ w

    count = flops.step_head_layer(d, steps, conditions, fused=3, gate=True)
    assert count == flops.counted(run)


# ---- what really runs --------------------------------------------------------------------------


def test_products_know_their_part_and_their_weights():
    first, second = torch.nn.Linear(8, 16), torch.nn.Conv2d(3, 4, 2, stride=2, bias=False)
    named = {f"one.{n}": p for n, p in first.named_parameters()}
    named |= {f"two.{n}": p for n, p in second.named_parameters()}

    def run():
        y = first(torch.randn(3, 8))
        y @ y.T  # activations alone: still the first part
        second(torch.randn(1, 3, 4, 4))

    products = flops.record(run, named, lambda name: name[:3])
    assert products == (
        flops.Product("one", 2 * 3 * 8 * 16, 8 * 16),
        flops.Product("one", 2 * 3 * 16 * 3, 0),
        flops.Product("two", 2 * 4 * (3 * 2 * 2 * 4), 3 * 4 * 2 * 2),
    )


def test_the_fused_attention_of_a_cpu_is_counted():
    q, k = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 7, 8)
    run = lambda: F.scaled_dot_product_attention(q, k, k)  # noqa: E731
    expected = 2 * 2 * (2 * 5 * 7 * 8)
    with torch.no_grad():
        assert flops.counted(run) == expected
        assert sum(p.flops for p in flops.record(run, {}, str)) == expected


def test_limits_are_the_longer_of_work_and_weights():
    device = flops.Device("d", tera_flops=1.0, tera_bytes=0.1)
    busy, heavy = flops.Product("a", 4 * 10**9, 10**8), flops.Product("a", 10**9, 10**9)
    assert flops.limit([busy], device) == pytest.approx(4.0)  # ms
    assert flops.limit([heavy], device) == pytest.approx(20.0)
    assert flops.limit([busy, heavy], device) == pytest.approx(24.0)
    assert flops.limit([heavy], flops.Device("d", 1.0, 0.1, weight_bytes=4)) == pytest.approx(40.0)
