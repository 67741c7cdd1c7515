"""Records survive files and crashes; summaries count what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from costep.evaluate import records as store
from costep.evaluate.records import EpisodeRecord, Score, summarise
from costep.evaluate.statistics import wilson

FULL = EpisodeRecord(
    task="stack",
    seed=4,
    instruction="stack the red block on the blue one",
    success=True,
    steps=31,
    seconds=1.5,
    ms=(10.0, 20.0, 30.0),
    layers_run=(4, 8, 8),
    layers_total=8,
    exit_layers=(3, 7, 7),
    gates=({6: (0.2, 0.3, 0.5)},) * 3,
    discrepancies=({3: 0.5, 5: None},) * 3,
)


def test_a_line_is_readable_json_and_comes_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "run" / "episodes.jsonl"
    store.append(path, FULL)
    values = json.loads(path.read_text())
    assert values["ms_p50"] == 20.0
    assert values["queries"] == 3
    assert values["mean_layers_run"] == pytest.approx(20 / 3)
    assert store.read(path) == [FULL]


def test_nan_becomes_null(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    store.append(path, EpisodeRecord("t", 0, discrepancies=({1: float("nan")},)))
    assert "NaN" not in path.read_text()
    assert store.read(path)[0].discrepancies == ({1: None},)


def test_a_torn_line_is_cut_and_the_file_continues(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    store.append(path, EpisodeRecord("t", 0))
    store.append(path, EpisodeRecord("t", 1))
    path.write_text(path.read_text()[:-20])
    assert [r.seed for r in store.read(path)] == [0]
    store.repair(path)
    store.append(path, EpisodeRecord("t", 2))
    assert [r.seed for r in store.read(path)] == [0, 2]


def test_a_bad_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    store.append(path, EpisodeRecord("t", 0))
    path.write_text("{oops}\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1"):
        store.read(path)


def test_the_latest_record_of_an_episode_counts(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    store.append(path, EpisodeRecord("t", 0, error="boom"))
    store.append(path, EpisodeRecord("t", 0, success=True))
    assert [r.success for r in store.read(path)] == [True]


def test_summary_counts_tasks_depth_and_latency() -> None:
    shallow = EpisodeRecord("bowl", 1, ms=(40.0,), layers_run=(2,), layers_total=8, steps=9)
    broken = EpisodeRecord("bowl", 2, error="boom")
    s = summarise([FULL, shallow, broken])
    assert s.overall == Score(1, 2)
    assert s.errors == 1
    assert s.tasks == {"stack": Score(1, 1), "bowl": Score(0, 1)}
    assert s.layers_saved == pytest.approx(1 - (4 + 8 + 8 + 2) / 32)
    saved = s.layers_saved_interval
    assert (saved.low, saved.high) == pytest.approx((1 - 20 / 24, 1 - 2 / 8))
    assert (s.ms_p50, s.mean_steps, s.layers_total, s.queries) == (25.0, 20.0, 8, 4)
    json.dumps(s.to_json(), allow_nan=False)
    assert s.to_json()["interval"] == [wilson(1, 2).low, wilson(1, 2).high]


def test_flops_saved_are_those_of_the_whole_run() -> None:
    query = {"ms": (1.0,), "layers_run": (4,), "layers_total": 8}
    cheap = EpisodeRecord("t", 0, **query, gflops=3.0, gflops_total=4.0)
    full = EpisodeRecord("t", 1, **query, gflops=8.0, gflops_total=8.0)
    s = summarise([cheap, full])
    assert (s.mean_gflops, s.flops_saved) == (5.5, pytest.approx(1 / 12))
    assert summarise([FULL]).flops_saved is None  # nobody counted


def test_summary_of_a_control_has_no_depth() -> None:
    s = summarise([EpisodeRecord("t", 0, success=True, steps=3)])
    assert s.layers_saved is None
    assert s.ms_p50 is None
    assert s.overall.rate == 1.0


def test_score_reads_well() -> None:
    assert str(Score(19, 20)) == "95.0% (19/20, 95% 76.4% to 99.1%)"
    assert str(Score(0, 0)) == "no episodes"
