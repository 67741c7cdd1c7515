"""The belief: a GRU over executed actions, its two modes, and where its gradient goes."""

from dataclasses import replace

import pytest
import torch
from miniature import change, make, miniature, observe, windows

from costep.belief import BeliefEncoder
from costep.exits.controller import ExitRule
from costep.types import Belief

A, S, WIDTH, DIM, K = 7, 8, 32, 12, 4


def encoder(carry=False, gates=1):
    torch.manual_seed(0)
    return BeliefEncoder(A, S, WIDTH, DIM, gates, carry=carry)


def rollout(steps, rows=2):
    """A belief after ``steps`` executed actions."""
    torch.manual_seed(5)
    belief = Belief.empty(rows, DIM, K, A)
    for _ in range(steps):
        belief = belief.push(torch.rand(rows, A) * 2 - 1)
    return belief


PROPRIO, VISION = torch.rand(2, S), torch.randn(2, 6, WIDTH)


def test_equations_two_and_three_by_hand():
    """A GRU cell written out, over [action, valid, proprio] rows from h0 = W_0 mean(C_vis)."""
    enc, belief = encoder(), rollout(3)
    w = enc.state_dict()
    h = VISION.mean(1) @ w["start.weight"].T + w["start.bias"]
    for k in range(K):
        row = torch.cat([belief.actions[:, k], belief.valid[:, k : k + 1].float(), PROPRIO], -1)
        i = row @ w["cell.weight_ih"].T + w["cell.bias_ih"]
        g = h @ w["cell.weight_hh"].T + w["cell.bias_hh"]
        (ir, iz, inew), (hr, hz, hn) = i.chunk(3, -1), g.chunk(3, -1)
        r, z = torch.sigmoid(ir + hr), torch.sigmoid(iz + hz)
        h = (1 - z) * torch.tanh(inew + r * hn) + z * h
    b = h @ w["out.weight"].T + w["out.bias"]
    beliefs, seen = enc(belief, PROPRIO, VISION)
    assert beliefs.shape == (1, 2, DIM)
    assert torch.allclose(beliefs[0], b, atol=1e-6)
    assert torch.allclose(seen.h, h, atol=1e-6)


def both(belief):
    return [encoder(carry)(belief, PROPRIO, VISION)[0] for carry in (False, True)]


@pytest.mark.parametrize("steps", [0, 1, 3, 9])
def test_window_equals_carry_on_the_first_query(steps):
    window, carry = both(rollout(steps))
    assert torch.equal(window, carry)


def test_window_equals_carry_after_a_reset():
    enc = encoder(carry=True)
    _, belief = enc(rollout(4), PROPRIO, VISION)
    later = belief.push(torch.ones(2, A))
    assert not torch.equal(*both(later))
    again = later.reset(torch.ones(2, dtype=torch.bool)).push(torch.ones(2, A))
    assert torch.equal(*both(again))


def test_carry_feeds_only_the_fresh_rows():
    """Two queries of two rows each equal four GRU steps from the first frame's h0."""
    enc = encoder(carry=True)
    torch.manual_seed(1)
    actions = torch.rand(4, 2, A)
    start = rollout(0)
    _, belief = enc(start, PROPRIO, VISION)
    h = belief.h
    for pair in (actions[:2], actions[2:]):
        for a in pair:
            belief = belief.push(a)
        assert belief.fresh.tolist() == [2, 2]
        _, belief = enc(belief, PROPRIO, torch.randn(2, 6, WIDTH))  # later frames do not enter
        for a in pair:
            h = enc.cell(torch.cat([a, torch.ones(2, 1), PROPRIO], -1), h)
    assert torch.allclose(belief.h, h, atol=1e-6)
    assert belief.fresh.tolist() == [0, 0]


def test_window_forgets_what_is_older():
    enc = encoder()
    old = rollout(9)
    short = replace(old, h=torch.randn(2, DIM), started=torch.ones(2, dtype=torch.bool))
    assert torch.equal(enc(old, PROPRIO, VISION)[0], enc(short, PROPRIO, VISION)[0])


@pytest.mark.parametrize("carry", [False, True])
def test_a_zero_action_is_not_padding(carry):
    enc = encoder(carry)
    empty = Belief.empty(2, DIM, K, A)
    still = empty.push(torch.zeros(2, A))
    assert torch.equal(empty.actions, still.actions)
    a, b = (enc(s, PROPRIO, VISION)[0] for s in (empty, still))
    assert not torch.allclose(a, b, atol=1e-4)


def test_what_lies_under_padding_does_not_matter():
    enc, belief = encoder(), rollout(2)
    dirty = belief.actions.clone()
    dirty[:, :2] = 9.0
    a, b = (enc(replace(belief, actions=x), PROPRIO, VISION)[0] for x in (belief.actions, dirty))
    assert torch.equal(a, b)


def test_order_and_proprioception_matter():
    enc, belief = encoder(), rollout(4)
    b, _ = enc(belief, PROPRIO, VISION)
    shuffled = replace(belief, actions=belief.actions.flip(1))
    assert not torch.allclose(b, enc(shuffled, PROPRIO, VISION)[0], atol=1e-4)
    assert not torch.allclose(b, enc(belief, PROPRIO + 1, VISION)[0], atol=1e-4)
    assert not torch.allclose(b, enc(belief, PROPRIO, VISION + 1)[0], atol=1e-4)


def test_rows_are_independent():
    enc = encoder(carry=True)
    _, belief = enc(rollout(4), PROPRIO, VISION)
    belief = belief.push(torch.ones(2, A))
    reset = belief.reset(torch.tensor([True, False]))
    a, b = (enc(s, PROPRIO, VISION)[0][0] for s in (belief, reset))
    assert not torch.allclose(a[0], b[0], atol=1e-4)
    assert torch.equal(a[1], b[1])


def test_several_gates_chain_their_hidden_states():
    """The final hidden state of one gated layer seeds the next one's GRU (s2vla section 4)."""
    one, two = encoder(gates=1), encoder(gates=2)
    belief = rollout(4)
    first, seen = one(belief, PROPRIO, VISION)
    both, _ = two(belief, PROPRIO, VISION)
    assert torch.equal(both[0], first[0])
    h = seen.h
    rows = torch.cat([belief.actions, torch.ones(2, K, 1), PROPRIO[:, None].expand(-1, K, -1)], -1)
    for k in range(K):
        h = two.cell(rows[:, k], h)
    assert torch.allclose(both[1], two.out(h), atol=1e-6)


# ---- inside a policy -----------------------------------------------------------------------------
@pytest.fixture
def config():
    return miniature("s2vla", head__gate__init="default")


def test_history_moves_the_action_and_the_gate(config):
    policy, seen = make(config), observe(config)
    empty = policy.empty_belief(2).follow(seen.instruction)
    pushed = empty.push(torch.ones(2, A))
    a, after, trace = policy.act(seen, empty)
    b, _, other = policy.act(seen, pushed)
    assert not torch.allclose(a.actions, b.actions, atol=1e-7)
    assert not torch.allclose(trace.gates[3], other.gates[3], atol=1e-6)
    assert trace.belief_norm.shape == (2,)
    assert after.started.all()


@pytest.mark.parametrize("mode", ["window", "carry"])
def test_another_instruction_starts_afresh(config, mode):
    policy = make(change(config, belief__mode=mode))
    seen = observe(config)
    _, belief, _ = policy.act(seen, policy.empty_belief(2))
    belief = belief.push(torch.ones(2, A))
    other = replace(seen, instruction=(seen.instruction[0], "push the mug"))
    _, after, _ = policy.act(other, belief)
    assert after.instruction == other.instruction
    assert after.valid.any(1).tolist() == [True, False]
    fresh = policy.act(other, policy.empty_belief(2))[0].actions
    remembered = policy.act(other, belief)[0].actions
    assert torch.equal(remembered[1], fresh[1])
    assert not torch.allclose(remembered[0], fresh[0], atol=1e-7)


def test_a_missing_belief_is_an_empty_one(config):
    policy, seen = make(config), observe(config)
    a = policy.act(seen)[0].actions
    assert torch.equal(a, policy.act(seen, policy.empty_belief(2))[0].actions)


@pytest.mark.parametrize("mode", ["window", "carry"])
def test_training_remembers_what_a_rollout_would(config, mode):
    """A window's history gives the belief of a rollout at its first query after a reset."""
    policy = make(change(config, belief__mode=mode))
    batch = windows(config)
    belief = policy.empty_belief(2, tuple(batch["instruction"]))
    for k in range(K):
        belief = belief.push(batch["history"][:, k], batch["history_valid"][:, k])
    recalled = policy.recall(batch)
    rolled = policy.belief(belief, batch["state"], VISION)[0]
    trained = policy.belief(recalled, batch["state"], VISION)[0]
    assert torch.equal(rolled, trained)


def test_gradient_reaches_gru_belief_and_gate(config):
    policy = make(config)
    policy.loss(windows(config))[0].backward()
    names = ("belief.cell", "belief.start", "belief.out", "head.blocks.2.weights.gate")
    for name, p in policy.named_parameters():
        if name.startswith(names):
            assert p.grad is not None, name
            assert p.grad.abs().max() > 0, name


def test_a_uniform_gate_learns_in_two_steps():
    """With a zero last layer the GRU's gradient is exactly 0 at step 0 (rulings 16)."""
    config = miniature("s2vla")
    policy = make(config)
    policy.loss(windows(config))[0].backward()
    last = policy.head.blocks[2].weights.gate[-1]
    assert policy.belief.cell.weight_ih.grad.abs().max() == 0
    assert last.weight.grad.abs().max() > 0
    last.weight.data -= 0.1 * last.weight.grad
    policy.loss(windows(config))[0].backward()
    assert policy.belief.cell.weight_ih.grad.abs().max() > 0


@pytest.mark.parametrize("mode", ["window", "carry"])
def test_the_belief_never_depends_on_the_exit(mode):
    """All gated layers' beliefs are computed once, right after the vision layer (rulings 3)."""
    config = miniature(
        "s2vla",
        head__gate__layers=(2, 5), head__gate__init="default", exits__require_gate=False,
        belief__mode=mode,
    )  # fmt: skip
    policy, seen, updates = make(config), observe(config), []
    policy.belief.register_forward_hook(lambda *_: updates.append(1))
    belief = policy.empty_belief(2, seen.instruction).push(torch.ones(2, A))
    carried = [
        policy.act(seen, belief, exits=ExitRule.forced(config.exit_layers, e))[1].h
        for e in config.exit_layers
    ]
    assert len(updates) == len(carried) == 4
    assert all(torch.equal(h, carried[0]) for h in carried)
