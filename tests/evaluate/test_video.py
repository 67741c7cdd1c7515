"""Videos decode again, in the format browsers play, and stay small."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import islice

import av
import numpy as np
import pytest

from costep.evaluate import video
from costep.evaluate.recording import Recording


@pytest.fixture
def episode() -> Recording:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (21, 8, 8, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    return Recording(
        task="stack", seed=1, instruction="stack the red block on the blue block " * 3,
        success=True, control_hz=20.0, layers_total=8,
        frames={"agent": frames, "wrist": frames[:, ::-1]},
        actions=np.zeros((20, 7), np.float32), query_steps=np.array([0, 8, 16]),
        ms=np.ones(3), layers_run=np.array([8, 4, 2]), exit_layer=np.array([7, 3, 1]),
    )  # fmt: skip


def test_the_mp4_is_what_browsers_play(episode: Recording) -> None:
    content = video.rollout_video(episode, panel=64)
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64 * 2 + video.GAP, 64 + video.BAR)
        assert float(stream.average_rate) == 20.0
        assert sum(1 for _ in container.decode(stream)) == 21 + 16  # steps + held end
    assert content.find(b"moov") < content.find(b"mdat")  # index first


def test_the_panels_show_the_cameras(episode: Recording) -> None:
    first = next(video.compose(episode, 64))
    assert np.array_equal(first[:64, :64], episode.frames["agent"][0])
    assert np.array_equal(first[:64, 68:132], episode.frames["wrist"][0])


def test_cells_show_the_depth(episode: Recording) -> None:
    def lit(step: int) -> int:
        frame = next(islice(video.compose(episode, 256), step, None))
        return int((frame == video.LIT).all(-1).sum())

    assert lit(0) == 2 * lit(8) == 4 * lit(16) > 0


def test_the_end_tells_success_from_failure(episode: Recording) -> None:
    *_, good = video.compose(episode, 64)
    *_, bad = video.compose(replace(episode, success=False), 64)
    assert tuple(good[0, 0]) == video.SUCCESS
    assert tuple(bad[0, 0]) == video.FAILURE


def test_quality_gives_way_to_size(episode: Recording) -> None:
    large = video.rollout_video(episode, panel=64, max_bytes=10**9)
    small = video.rollout_video(episode, panel=64, max_bytes=1)
    assert len(small) < 0.6 * len(large)


def test_a_control_without_queries_has_no_cells(episode: Recording) -> None:
    none = np.zeros(0, int)
    silent = replace(episode, query_steps=none, layers_run=none, layers_total=0)
    assert not (next(video.compose(silent, 64)) == video.LIT).all(-1).any()
    assert video.poster(silent)[:2] == b"\xff\xd8"


def test_odd_sides_and_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="even sides"):
        video.encode([np.zeros((3, 4, 3), np.uint8)], 20)
    with pytest.raises(ValueError, match="at least one"):
        video.encode([], 20)


def test_data_uri() -> None:
    assert video.data_uri(b"abc", "video/mp4") == "data:video/mp4;base64,YWJj"
