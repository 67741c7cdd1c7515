"""The belief's state: pushed, reset and followed row by row."""

import torch

from costep.types import Belief


def full(rows=3, horizon=4):
    belief = Belief.empty(rows, 5, horizon, 2, ("a", "b", "c")[:rows])
    return Belief(
        h=torch.randn(rows, 5), started=torch.ones(rows, dtype=torch.bool),
        actions=torch.randn(rows, horizon, 2), valid=torch.ones(rows, horizon, dtype=torch.bool),
        fresh=torch.full((rows,), 2), instruction=belief.instruction,
    )  # fmt: skip


def same(a, b, row):
    fields = ("h", "started", "actions", "valid", "fresh")
    return all(torch.equal(getattr(a, f)[row], getattr(b, f)[row]) for f in fields)


def test_an_empty_belief_has_no_valid_row():
    belief = Belief.empty(2, 5, 4, 7)
    assert not belief.valid.any()
    assert not belief.started.any()
    assert belief.actions.shape == (2, 4, 7)


def test_push_appends_the_newest_last():
    belief = Belief.empty(1, 5, 3, 2)
    for k in range(4):
        belief = belief.push(torch.full((1, 2), float(k)))
        assert belief.fresh.item() == min(k + 1, 3)
    assert belief.actions[0, :, 0].tolist() == [1.0, 2.0, 3.0]
    assert Belief.empty(1, 5, 3, 2).push(torch.ones(1, 2)).valid.tolist() == [[False, False, True]]


def test_push_of_some_rows_leaves_the_others():
    before = full()
    after = before.push(torch.ones(3, 2), torch.tensor([True, False, True]))
    assert same(before, after, 1)
    assert not same(before, after, 0)


def test_reset_of_a_row_leaves_the_others():
    before = full()
    after = before.reset(torch.tensor([False, True, False]))
    assert same(before, after, 0)
    assert same(before, after, 2)
    assert same(after, Belief.empty(3, 5, 4, 2), 1)


def test_another_instruction_resets_its_row_only():
    before = full()
    after = before.follow(("a", "x", "c"))
    assert after.instruction == ("a", "x", "c")
    assert same(before, after, 0)
    assert same(after, Belief.empty(3, 5, 4, 2), 1)
    assert before.follow(("a", "b", "c")) is before


def test_nothing_is_changed_in_place():
    before = full()
    copy = before.actions.clone()
    before.push(torch.ones(3, 2))
    before.reset(torch.ones(3, dtype=torch.bool))
    assert torch.equal(before.actions, copy)
