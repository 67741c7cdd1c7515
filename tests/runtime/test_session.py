"""A rollout: one query per chunk, every executed action remembered once, replayable noise."""

from dataclasses import replace

import pytest
import torch
from miniature import change, make, miniature, observe, pick

from costep.exits.controller import ExitRule
from costep.runtime.session import Session


def marked(action):
    """As executed: something the session cannot have got from anywhere else."""
    return action.clamp(-0.5, 0.5) + 2


@pytest.fixture
def policy():
    return make(miniature("s2vla", head__gate__init="default"))


def roll(session, seen, steps):
    """The next ``steps`` actions and which of them came with a query."""
    actions, queried = [], []
    for _ in range(steps):
        action, trace = session.act(seen)
        actions.append(action)
        queried.append(trace is not None)
    return torch.stack(actions, 1), queried


@pytest.mark.parametrize("execute", [1, 3, 4])
def test_a_query_every_n_action_steps(policy, execute):
    session = Session(policy, marked, rows=2, n_action_steps=execute)
    _, queried = roll(session, observe(policy.config), 9)
    assert queried == [t % execute == 0 for t in range(9)]


def test_n_action_steps_defaults_to_the_configuration():
    for steps, expected in ((None, 4), (2, 2)):
        policy = make(miniature("s2vla", n_action_steps=steps))
        session = Session(policy, marked, rows=2)
        assert session.execute == expected
    with pytest.raises(ValueError, match="n_action_steps=5; expected 1 to 4"):
        Session(policy, marked, n_action_steps=5)


def test_the_open_chunk_is_executed_in_order(policy):
    seen = observe(policy.config)
    chunk = policy.act(seen, policy.empty_belief(2))[0].actions
    session = Session(policy, marked, rows=2)
    assert session.hungry
    actions, _ = roll(session, seen, 4)
    assert torch.equal(actions, chunk)
    assert session.hungry


def test_every_executed_action_is_remembered_once(policy):
    session = Session(policy, marked, rows=2, n_action_steps=3)
    seen, executed = observe(policy.config), []
    for step in range(1, 10):
        action, _ = session.act(seen)
        executed.append(marked(action))
        belief = session._belief
        assert belief.valid.sum(1).tolist() == [min(step, 4)] * 2
        kept = belief.actions[:, -min(step, 4) :]
        assert torch.equal(kept, torch.stack(executed, 1)[:, -4:])
        assert belief.fresh.tolist() == [(step - 1) % 3 + 1] * 2


def test_a_new_session_remembers_nothing(policy):
    seen = observe(policy.config)
    first = Session(policy, marked, rows=2)
    before, _ = roll(first, seen, 4)
    again, _ = roll(first, seen, 4)
    assert not torch.equal(before, again)  # the history moved the action
    assert torch.equal(before, roll(Session(policy, marked, rows=2), seen, 4)[0])


def test_rows_of_a_session_are_rollouts_of_their_own(policy):
    seen = observe(policy.config, rows=3)
    together, _ = roll(Session(policy, marked, rows=3), seen, 8)
    for row in range(3):
        alone, _ = roll(Session(policy, marked), pick(seen, row), 8)
        assert torch.allclose(alone[0], together[row], atol=1e-5)


def test_sessions_do_not_touch_each_other(policy):
    """Shuffled session ids give identical chunks (s2vla test 6)."""
    seen = [observe(policy.config, seed=s) for s in range(3)]
    apart = [roll(Session(policy, marked, rows=2), s, 8)[0] for s in seen]
    sessions = [Session(policy, marked, rows=2) for _ in seen]
    woven = [[] for _ in seen]
    for step in range(8):
        for i in ([2, 0, 1], [1, 2, 0])[step % 2]:
            woven[i].append(sessions[i].act(seen[i])[0])
    for i in range(3):
        assert torch.equal(torch.stack(woven[i], 1), apart[i])


def test_another_instruction_forgets(policy):
    seen = observe(policy.config)
    other = replace(seen, instruction=("push the mug",) * 2)
    session = Session(policy, marked, rows=2)
    roll(session, seen, 4)
    changed, _ = roll(session, other, 4)
    assert torch.equal(changed, roll(Session(policy, marked, rows=2), other, 4)[0])


def test_noise_is_a_function_of_seed_and_query():
    policy = make(miniature("a1_flow"))
    seen = observe(policy.config)
    one, _ = roll(Session(policy, marked, rows=2, seed=1), seen, 8)
    again, _ = roll(Session(policy, marked, rows=2, seed=1), seen, 8)
    other, _ = roll(Session(policy, marked, rows=2, seed=2), seen, 8)
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one[:, :4], one[:, 4:], atol=1e-4)  # fresh noise per query


def test_exits_reach_the_policy(policy):
    rule = ExitRule.forced(policy.config.exit_layers, 2, probe=policy.config.probe)
    session = Session(policy, marked, rows=2, exits=rule)
    _, trace = session.act(observe(policy.config))
    assert trace.layers_run == 3


def test_another_number_of_rows_is_refused(policy):
    session = Session(policy, marked, rows=2)
    with pytest.raises(ValueError, match="acts for 2 rows, the observation has 3"):
        session.act(observe(policy.config, rows=3))


def test_a_policy_without_belief_keeps_no_history():
    policy = make(change(miniature("focusvla"), n_action_steps=2))
    calls = []
    session = Session(policy, lambda a: calls.append(a) or a, rows=2)
    roll(session, observe(policy.config), 4)
    assert calls == []
