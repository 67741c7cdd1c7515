"""From folders to a page: roles, choices by rule, and no number that is not in the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costep.evaluate import records as store
from costep.evaluate.protocol import Protocol
from costep.evaluate.recording import Recording
from costep.evaluate.report import render_report
from costep.evaluate.runner import recording_path, to_record
from costep.inspect.episode import episode_figures
from costep.inspect.story import Run, report_from_recording, report_from_runs

PROTOCOL = Protocol(
    suite="desk",
    tasks=("stack", "bowl"),
    seeds=(0, 1, 2, 3),
    max_steps=60,
    n_action_steps=8,
    cameras=("agent", "wrist"),
    control_hz=20.0,
)


def write_run(folder: Path, recording: Recording, solved: int, *, network: bool = True) -> Path:
    """Episodes of which the first ``solved`` succeed; seeds 0 and 2 are recorded in full."""
    PROTOCOL.save(folder / "protocol.json")
    none = np.zeros(0, int)
    for index, (task, seed) in enumerate(PROTOCOL.episodes()):
        r = replace(recording, task=task, seed=seed, success=index < solved)
        if not network:
            r = replace(
                r, query_steps=none, ms=none, layers_run=none, exit_layer=none,
                gates={}, kept={}, discrepancies={}, layers_total=0,
            )  # fmt: skip
        store.append(folder / "episodes.jsonl", to_record(r, 1.0))
        if seed in (0, 2):
            r.save(recording_path(folder, task, seed))
    return folder


@pytest.fixture
def runs(tmp_path: Path, recording: Recording) -> list[Run]:
    full = replace(recording, layers_run=np.full(5, 8), discrepancies={})
    return [
        Run("Random", write_run(tmp_path / "r", recording, 0, network=False), "control"),
        Run("Before", write_run(tmp_path / "b", full, 1), "before"),
        Run("Full", write_run(tmp_path / "f", full, 7), "full"),
        Run("Exits", write_run(tmp_path / "e", recording, 6), "exits", "c = 1"),
    ]


def test_the_story_says_what_the_records_say(runs: list[Run]) -> None:
    data = report_from_runs(runs, title="t", videos=3)
    assert [h.value for h in data.headlines] == ["88%", "75%", "25%", "12%"]
    assert [row.kind for row in data.success] == ["control", "control", "result", "highlight"]
    assert [row.layers_saved for row in data.success] == [None, 0.0, 0.0, 0.25]
    assert data.paired[0][0] == "Exits against Full: -12.5 points"
    assert [row.scores[3].successes for row in data.tasks] == [4, 2]
    assert [row.label for row in data.latency] == ["Before", "Full", "Exits"]
    assert len(data.figures) == 4
    assert len(data.compute_figures) == 2
    assert "Exits" in render_report(data)


def test_videos_are_chosen_by_rule_not_by_outcome(runs: list[Run]) -> None:
    videos = report_from_runs(runs, title="t", videos=5).videos
    assert [v.title for v in videos] == ["Exits"] * 4 + ["Before"]
    assert [v.success for v in videos[:4]] == [
        True,
        True,
        True,
        False,
    ]  # both seeds 0, both seeds 2
    assert [p.name for p in runs[3].recordings()] == [
        "stack-0.npz", "bowl-0.npz", "stack-2.npz", "bowl-2.npz",
    ]  # fmt: skip


def test_a_single_run_and_a_control_alone_make_a_page(runs: list[Run]) -> None:
    assert "Full" in render_report(report_from_runs(runs[2:3], title="t", videos=1))
    data = report_from_runs(runs[:1], title="t", videos=0)
    assert data.figures == ()
    assert data.compute_figures == ()
    with pytest.raises(ValueError, match="at least one run"):
        report_from_runs([], title="t")


def test_figures_appear_only_where_there_is_data(recording: Recording) -> None:
    titles = [f.title for f in episode_figures(recording)]
    assert len(titles) == 4
    plain = replace(recording, gates={}, kept={}, discrepancies={})
    assert [f.title for f in episode_figures(plain)] == ["How deep it thinks"]
    assert all(f.caption and f.alt and f.source for f in episode_figures(recording))


def test_pictures_come_from_the_longest_solved_episode(runs: list[Run]) -> None:
    folder = runs[3].folder
    steps = {("stack", 0): 30, ("stack", 2): 35, ("bowl", 0): 20, ("bowl", 2): 40}  # last: failed
    for record in store.read(folder / "episodes.jsonl"):
        store.append(
            folder / "episodes.jsonl", replace(record, steps=steps.get(record.key, record.steps))
        )
    caption = report_from_runs(runs, title="t", videos=0).figures[0].caption
    assert "seed 2, solved" in caption


def test_runs_without_roles_are_compared_with_the_last(runs: list[Run]) -> None:
    plain = [Run(run.label, run.folder) for run in runs[1:]]
    data = report_from_runs(plain, title="t", videos=0)
    assert [h.label for h in data.headlines] == ["solved by Exits"]
    assert [head for head, _ in data.paired] == [
        "Exits against Before: +62.5 points",
        "Exits against Full: -12.5 points",
    ]
    assert [row.kind for row in data.success] == ["result", "result", "highlight"]


def test_one_recording_makes_a_page(recording: Recording) -> None:
    data = report_from_recording(recording)
    assert data.title == "stack the red block"
    assert len(data.figures) == 4
    assert len(data.videos) == 1
