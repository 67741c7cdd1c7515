"""A cache in which only some frames were drawn: windows start where there is a picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import demonstrate, small_contract

from costep.data.cache import CacheError
from costep.data.gather import gather
from costep.data.windows import WindowDataset


def every_third(task, seed, noise, images):
    episode = demonstrate(task, seed, noise, images)
    if episode is None:
        return None
    drawn = np.arange(0, len(episode.state), 3)
    return replace(episode, images={c: x[drawn] for c, x in episode.images.items()}, pictured=drawn)


@pytest.fixture
def caches(tmp_path):
    request = {"contract": small_contract(), "pixels": 32, "processes": 1, "heldout": 0.0}
    whole = gather(tmp_path / "whole", demonstrate, ["red", "blue"], 2, **request)
    sparse = gather(tmp_path / "sparse", every_third, ["red", "blue"], 2, **request)
    return whole, sparse


def test_windows_start_at_pictures_and_see_the_same(caches):
    whole, sparse = caches
    assert len(whole) == len(sparse)
    all_windows, some = (WindowDataset(c, history=4, split="all") for c in caches)
    assert (sparse.pictured[some.anchors] >= 0).all()
    assert len(some) < len(all_windows) / 2
    same = np.searchsorted(all_windows.anchors, some.anchors)
    left, right = all_windows.batch(same), some.batch(np.arange(len(some)))
    for key in ("state", "actions", "history", "history_valid"):
        assert (left[key] == right[key]).all()
    for camera, pixels in left["images"].items():
        assert (pixels == right["images"][camera]).all()


def test_a_row_without_a_picture_is_refused(caches):
    sparse = caches[1]
    row = np.flatnonzero(sparse.pictured < 0)[:1]
    with pytest.raises(CacheError, match="no picture"):
        sparse.images(sparse.cameras[0], row)
