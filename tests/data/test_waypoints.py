"""Hindsight waypoints: looking ahead within an episode, never beyond it."""

from __future__ import annotations

import numpy as np

from costep.data.waypoints import next_events, offsets

# two episodes; the gripper (1 = open) closes and opens in the first, closes in the second
GRIPPER = np.array([1, 1, 0, 0, 1, 1, 1, 0, 0.0])
STOPS = np.array([6] * 6 + [9] * 3)


def test_the_next_events_are_toggles_and_the_end_of_the_episode():
    rows, valid = next_events(GRIPPER, STOPS, 2)
    found = [tuple(int(r) for r, ok in zip(*pair) if ok) for pair in zip(rows, valid)]
    assert found == [(2, 4), (2, 4), (4, 5), (4, 5), (5,), (), (7, 8), (8,), ()]


def test_an_episode_never_sees_into_the_next():
    rows, valid = next_events(GRIPPER, STOPS, 2)
    assert (rows[valid] < np.broadcast_to(STOPS[:, None], rows.shape)[valid]).all()


def test_offsets_are_relative_to_the_hand_now_and_zero_where_there_is_none():
    position = np.arange(27, dtype=np.float32).reshape(9, 3)
    away, valid = offsets(position, GRIPPER, STOPS, 2)
    assert away[0, 0].tolist() == [6, 6, 6]
    assert away[5].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert away.shape == (9, 2, 3)
    assert valid.shape == (9, 2)
