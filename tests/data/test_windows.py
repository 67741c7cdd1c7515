"""Windows: the right rows, validity instead of invented values, reproducible draws."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from synthetic import make_episode, write_cache

from costep.data.cache import CacheError
from costep.data.normalise import Normaliser
from costep.data.windows import WindowDataset
from costep.types import ImageSpec

LENGTHS = (12, 9, 15, 11)
SPLIT = ["train", "heldout", "train", "train"]
EPISODES = [
    make_episode(task, seed, length)
    for task, seed, length in zip(("red", "red", "blue", "red"), range(4), LENGTHS)
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("windows") / "cache", EPISODES, SPLIT)


def test_batch_has_the_policy_s_format(cache):
    data = WindowDataset(cache, history=5)
    batch = data.batch(np.arange(6))
    assert list(batch["images"]) == ["agent", "wrist"]
    for image in batch["images"].values():
        assert image.shape == (6, 3, 32, 32)
        assert image.dtype == torch.uint8
        assert image.is_contiguous(memory_format=torch.channels_last)  # as it lies on disk
    shapes = {k: tuple(v.shape) for k, v in batch.items() if isinstance(v, torch.Tensor)}
    assert shapes == {
        "state": (6, 8),
        "actions": (6, 4, 7),
        "action_valid": (6, 4),
        "history": (6, 5, 7),
        "history_valid": (6, 5),
        "waypoints": (6, 2, 3),
        "waypoints_valid": (6, 2),
        "task": (6,),
        "rows": (6,),
    }
    assert batch["instruction"] == ["push the red block"] * 6
    assert batch["state"].dtype == batch["actions"].dtype == batch["history"].dtype == torch.float32


def test_every_window_equals_a_plain_loop(cache):
    data = WindowDataset(cache, history=5, split="all")
    normal = Normaliser(cache.contract())
    batch = data.batch(np.arange(len(data)))
    index = 0
    for episode in EPISODES:
        target = normal.actions(episode.action.astype(np.float32))
        past = normal.history(episode.executed.astype(np.float32))
        for t in range(len(episode.state)):
            for k in range(4):
                valid = t + k < len(target)
                assert batch["action_valid"][index, k] == valid
                expected = target[t + k] if valid else np.zeros(7)
                np.testing.assert_array_equal(batch["actions"][index, k], expected)
            for k in range(5):
                row = t - 5 + k
                assert batch["history_valid"][index, k] == (row >= 0)
                expected = past[row] if row >= 0 else np.zeros(7)
                np.testing.assert_array_equal(batch["history"][index, k], expected)
            frame = batch["images"]["wrist"][index].permute(1, 2, 0)
            np.testing.assert_array_equal(frame, episode.images["wrist"][t])
            index += 1
    assert index == len(data) == sum(LENGTHS)


def test_history_is_what_was_executed_not_the_clean_label(cache):
    data = WindowDataset(cache, history=1)
    batch = data.batch(np.array([3]))
    normal = Normaliser(cache.contract())
    label = normal.history(EPISODES[0].action[2:3].astype(np.float32))
    assert not np.allclose(batch["history"][0, :, :3], label[:, :3])


def test_padding_and_a_zero_action_differ_by_validity(tmp_path):
    """An executed action that normalises to zeros is real; padding looks alike and is not."""
    episode = make_episode()
    contract = write_cache(tmp_path / "first", [episode], ["train"]).contract()
    low, high = (np.array(q) for q in (contract.action_stats.q01, contract.action_stats.q99))
    still = np.tile((low + high) / 2, (len(episode.state), 1))
    still = dataclasses.replace(episode, executed=still)
    data = WindowDataset(write_cache(tmp_path / "still", [still], ["train"]), contract, history=2)
    batch = data.batch(np.array([0, 5]))
    assert batch["history_valid"].tolist() == [[False, False], [True, True]]
    torch.testing.assert_close(
        batch["history"][0, :, :6], batch["history"][1, :, :6], atol=1e-6, rtol=0
    )


def test_drop_leaves_out_anchors_whose_chunk_passes_the_end(cache):
    masked, dropped = (WindowDataset(cache, history=2, tail=t) for t in ("pad_mask", "drop"))
    assert len(masked) - len(dropped) == 3 * 3
    assert dropped.batch(np.arange(len(dropped)))["action_valid"].all()
    assert not masked.batch(np.arange(len(masked)))["action_valid"].all()


def test_splits_share_no_episode_and_cover_everything(cache):
    rows = {
        s: set(WindowDataset(cache, history=1, split=s).anchors)
        for s in ("train", "heldout", "all")
    }
    assert rows["heldout"] == set(range(12, 21))
    assert rows["train"] | rows["heldout"] == rows["all"]
    assert not rows["train"] & rows["heldout"]


def test_draws_are_a_pure_function_of_seed_and_step(cache):
    data, again = (WindowDataset(cache, history=1) for _ in range(2))
    forward = [data.sample_indices(step, 16, seed=3) for step in range(5)]
    backward = [again.sample_indices(step, 16, seed=3) for step in reversed(range(5))][::-1]
    np.testing.assert_array_equal(forward, backward)
    assert not np.array_equal(forward[0], forward[1])
    assert not np.array_equal(forward[0], data.sample_indices(0, 16, seed=4))


@pytest.mark.parametrize(("temperature", "blue"), [(math.inf, 1 / 2), (1.0, 15 / 38)])
def test_temperature_balances_tasks_or_frames(cache, temperature, blue):
    data = WindowDataset(cache, history=1)
    drawn = data.sample_indices(0, 20_000, seed=0, temperature=temperature)
    names = np.array([cache.instructions[i] for i in data.batch(drawn[:1])["task"]])
    assert names[0] in cache.instructions
    share = np.mean(
        np.asarray(cache.task)[data.anchors[drawn]]
        == cache.instructions.index("push the blue block")
    )
    assert abs(share - blue) < 4 * math.sqrt(0.25 / 20_000)
    assert set(drawn) == set(range(len(data)))


def test_a_camera_the_cache_lacks_is_refused(cache):
    contract = dataclasses.replace(cache.contract(), images=(ImageSpec("left", 32, 32),))
    with pytest.raises(CacheError, match="asks for cameras"):
        WindowDataset(cache, contract, history=1)


def test_an_empty_split_is_refused(tmp_path):
    cache = write_cache(tmp_path / "cache", EPISODES[:1], ["train"])
    with pytest.raises(ValueError, match=r"'heldout' .* has no windows"):
        WindowDataset(cache, history=1, split="heldout")
