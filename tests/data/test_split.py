"""The held-out split is by episode, within tasks, and a function of its seed."""

from __future__ import annotations

import pytest

from costep.data.split import split_episodes

TASKS = [0] * 40 + [1] * 10 + [2] * 2 + [3]


def test_each_task_gives_its_share_and_never_all():
    train, heldout = split_episodes(TASKS, 0.1, seed=0)
    assert sorted(train + heldout) == list(range(len(TASKS)))
    counts = [sum(TASKS[i] == task for i in heldout) for task in range(4)]
    assert counts == [4, 1, 1, 0]


def test_seed_decides_and_zero_keeps_everything():
    assert split_episodes(TASKS, 0.1, 1) == split_episodes(TASKS, 0.1, 1)
    assert split_episodes(TASKS, 0.1, 1) != split_episodes(TASKS, 0.1, 2)
    assert split_episodes(TASKS, 0.0, 1)[1] == []
    with pytest.raises(ValueError, match="fraction is 1"):
        split_episodes(TASKS, 1, 0)
