"""S2's gate: three weights that sum to one, start uniform, and can silence a branch."""

import pytest
import torch
from miniature import change, climb, info, like, make, make_layout, make_taps, miniature, observe

from costep import heads
from costep.heads.ssgaa import BranchWeights, weigh
from costep.policy import Policy

BRANCHES = ("vis", "ite", "act")


def ready(name="s2vla", **fields):
    config = miniature(name, **fields)
    about = info()
    head = heads.build(config, about)
    layout = make_layout(about)
    beliefs = torch.randn(max(1, len(config.head.gated)), 2, 12)
    return config, head, layout, make_taps(about, layout), observe(config), beliefs


def force(head, layer, logits):
    """Fix the gate of a 1-based head layer, whatever the belief."""
    last = head.blocks[layer - 1].weights.gate[-1]
    last.weight.data.zero_()
    last.bias.data.copy_(torch.tensor(logits))


def test_gates_sum_to_one():
    _, head, layout, taps, seen, beliefs = ready(
        head__gate__init="default", head__gate__layers="all"
    )
    gates = climb(head, layout, taps, seen, beliefs).gates
    assert set(gates) == {1, 2, 3, 4, 5, 6}
    for gate in gates.values():
        assert gate.shape == (2, 3)
        assert torch.allclose(gate.sum(-1), torch.ones(2))
        assert (gate[0] - gate[1]).abs().max() > 1e-5  # another belief, another gate


def test_gates_are_uniform_at_init():
    _, head, layout, taps, seen, beliefs = ready(head__gate__layers=(2, 5))
    gates = climb(head, layout, taps, seen, beliefs).gates
    assert set(gates) == {2, 5}
    for gate in gates.values():
        assert torch.equal(gate, torch.full((2, 3), 1.0) / 3)


def test_a_fresh_gate_equals_static_thirds_bit_for_bit():
    """Gate@{} and Gate@mid are one function at step 0 (s2vla section 5)."""
    config = miniature("s2vla")
    gated, seen = make(config), observe(config)
    static = like(change(config, head__gate__layers=()), gated)
    assert torch.equal(gated.act(seen)[0].actions, static.act(seen)[0].actions)


@pytest.mark.parametrize("fusion", ["sum", "concat"])
@pytest.mark.parametrize("only", BRANCHES)
def test_a_one_hot_gate_removes_the_other_branches(fusion, only):
    _, head, layout, taps, seen, beliefs = ready(
        head__gate__layers="all", head__fusion=fusion, head__chunk_embed=True
    )
    for layer in range(1, 7):
        force(head, layer, [0.0 if b == only else -1e4 for b in BRANCHES])
    before = head.features(climb(head, layout, taps, seen, beliefs))
    for branch, part in (("vis", layout.vision), ("ite", layout.queries)):
        changed = [type(t)(t.layer, t.hidden.clone(), layout, t.kv, t.final_norm) for t in taps]
        for tap in changed:
            tap.hidden[:, part] += 1
        after = head.features(climb(head, layout, changed, seen, beliefs))
        assert torch.equal(before, after) == (only != branch)


def test_concat_blocks_are_scaled_by_three():
    """A uniform gate under concat is FocusVLA, whose blocks have no weights (rulings 1)."""
    config = miniature("composed")
    composed, seen = make(config), observe(config)
    focus = like(miniature("focusvla"), composed)
    a, b = composed.act(seen)[0].actions, focus.act(seen)[0].actions
    assert torch.allclose(a, b, atol=1e-6)
    force(composed.head, 3, [1.0, 0.0, 0.0])
    assert not torch.allclose(composed.act(seen)[0].actions, b, atol=1e-5)


def test_the_order_is_vision_intent_action():
    """Against eq. 7 and 8 written out, and the order that Trace promises."""
    head = miniature("s2vla").head
    weights = BranchWeights(head, 12, gated=True)
    torch.nn.init.normal_(weights.gate[-1].weight)
    b = torch.randn(2, 12)
    first, last = weights.gate[0], weights.gate[2]
    logits = (b @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias
    g = logits.exp() / logits.exp().sum(-1, keepdim=True)
    factors, gate = weights(b)
    assert torch.allclose(gate, g, atol=1e-6)
    act, ite, vis = (torch.full((2, 4, 5), v) for v in (1.0, 10.0, 100.0))
    a, i, v = weigh(factors, act, ite, vis)
    assert torch.allclose(v[:, 0, 0], 100 * g[:, 0], atol=1e-4)
    assert torch.allclose(i[:, 0, 0], 10 * g[:, 1], atol=1e-5)
    assert torch.allclose(a[:, 0, 0], g[:, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("static", "fusion", "factor"),
    [("third", "sum", 1 / 3), ("sum", "sum", 1.0), ("learned", "sum", 1 / 3),
     ("third", "concat", 1.0), ("sum", "concat", 1.0), ("learned", "concat", 1.0)],
)  # fmt: skip
def test_static_fusion(static, fusion, factor):
    config = change(miniature("s2vla"), head__gate__static=static, head__fusion=fusion)
    factors, gate = BranchWeights(config.head, 12, gated=False)(None)
    assert gate is None
    factors = torch.ones(3) if factors is None else factors
    assert torch.allclose(factors, torch.full((3,), factor))


def test_learned_static_fusion_learns():
    config = miniature("s2vla", head__gate__static="learned")
    head = ready(head__gate__static="learned")[1]
    learned = [n for n, _ in head.named_parameters() if n.endswith("weights.logits")]
    assert len(learned) == config.head.depth - 1  # one row per layer without a gate


def test_several_gates_have_beliefs_of_their_own():
    _, head, layout, taps, seen, beliefs = ready(
        head__gate__layers=(2, 5), head__gate__init="default"
    )
    before = climb(head, layout, taps, seen, beliefs).gates
    other = beliefs.clone()
    other[1] += 1
    after = climb(head, layout, taps, seen, other).gates
    assert torch.equal(before[2], after[2])
    assert not torch.allclose(before[5], after[5], atol=1e-4)


# ---- the "w/o State" row -------------------------------------------------------------------------
def test_a_constant_gate_has_no_recurrence():
    policy = Policy(miniature("s2vla", head__gate__source="constant"))
    assert policy.belief is None
    assert not any("cell" in n for n, _ in policy.named_parameters())
    assert policy.head.constant.shape == (1, 1, 12)


def test_a_constant_gate_ignores_history():
    config = miniature("s2vla", head__gate__source="constant", head__gate__init="default")
    policy, seen = make(config), observe(config)
    belief = policy.empty_belief(2)
    pushed = belief.push(torch.ones(2, 7))
    a, _, trace = policy.act(seen, belief)
    b, *_ = policy.act(seen, pushed)
    assert torch.equal(a.actions, b.actions)
    assert trace.gates[3].shape == (2, 3)
    assert torch.equal(trace.gates[3][0], trace.gates[3][1])


def test_a_constant_gate_is_trained():
    config = miniature("s2vla", head__gate__source="constant", head__gate__init="default")
    _, head, layout, taps, seen, _ = ready(
        head__gate__source="constant", head__gate__init="default"
    )
    assert config.head.gated == (3,)
    climb(head, layout, taps, seen, None).x.sum().backward()
    assert head.constant.grad.abs().max() > 0
