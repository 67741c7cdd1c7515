"""Collection: first successes by seed, failures counted, whatever the interruptions."""

from __future__ import annotations

import pytest
from synthetic import demonstrate

from costep.data.collect import Progress, collect


class MemoryWriter:
    """Stands in for EpisodeWriter: commits every ``commit_every`` episodes, loses the rest."""

    def __init__(self, disk: dict, commit_every: int = 3) -> None:
        self.disk, self.commit_every = disk, commit_every
        self.records = list(disk.get("records", []))
        self.notes = {
            k: (list(v) if isinstance(v, list) else v) for k, v in disk.get("notes", {}).items()
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add(self, episode, task):
        self.records.append({"task": task, "seed": episode.seed})
        if len(self.records) % self.commit_every == 0:
            self.finalise()

    def finalise(self):
        self.disk["records"] = list(self.records)
        self.disk["notes"] = {
            k: list(v) if isinstance(v, list) else v for k, v in self.notes.items()
        }
        return self.disk


def seeds(disk: dict) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for record in disk["records"]:
        found.setdefault(record["task"], []).append(record["seed"])
    return found


def run(disk: dict, **options) -> dict:
    options = {"first_seed": 100, "processes": 1, **options}
    return collect(MemoryWriter(disk), demonstrate, ["red", "blue"], 5, **options)


def test_every_task_gets_the_first_successes_of_its_seeds():
    disk = run({})
    # 102, 105, 108 fail (multiples of 3); 105 raises (multiple of 7)
    assert seeds(disk) == {task: [100, 101, 103, 104, 106] for task in ("red", "blue")}
    reasons = {(d["task"], d["seed"]): d["reason"] for d in disk["notes"]["dropped"]}
    assert reasons["red", 105] == "ArithmeticError: inverse kinematics diverged"
    assert reasons["blue", 102] == "the demonstrator did not succeed"
    assert len(reasons) == 4


def test_an_interrupted_collection_ends_with_the_same_episodes():
    whole = run({})
    for stop in range(1, 10):
        disk: dict = {}

        def crash(p: Progress, stop: int = stop) -> None:
            if p.kept == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(disk, progress=crash)
        run(disk)
        assert {k: sorted(v) for k, v in seeds(disk).items()} == seeds(whole), stop
        assert sorted(map(str, disk["notes"]["dropped"])) == sorted(
            map(str, whole["notes"]["dropped"])
        )


def test_progress_counts():
    seen: list[Progress] = []
    run({}, progress=seen.append)
    assert (seen[-1].kept, seen[-1].wanted, seen[-1].dropped) == (10, 10, 4)
    assert [p.kept for p in seen] == sorted(p.kept for p in seen)


def test_a_hopeless_task_ends_the_run_and_says_so():
    def hopeless(task, seed, noise, images):
        raise RuntimeError("no GL driver")

    with pytest.raises(
        RuntimeError, match="failed 4 times in a row, last: RuntimeError: no GL driver"
    ):
        collect(MemoryWriter({}), hopeless, ["red"], 2, processes=1, patience=4)


def test_another_request_on_the_same_folder_is_refused():
    disk = run({})
    with pytest.raises(ValueError, match="was started with"):
        run(disk, noise=0.5)


@pytest.mark.slow
def test_processes_do_not_change_the_data():
    assert run({}, processes=2) == run({}, processes=1)
