"""Result folders and the parts they play in a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from costep.evaluate import records as store
from costep.evaluate.protocol import Protocol
from costep.evaluate.records import EpisodeRecord, Summary, summarise
from costep.evaluate.runner import recording_path

Role = Literal["control", "before", "full", "exits", "other"]


@dataclass(frozen=True)
class Run:
    """One result folder with the part it plays: a control, the policy before training, at full
    depth, with exits, or any other."""

    label: str
    folder: Path
    role: Role = "other"
    note: str = ""

    @cached_property
    def protocol(self) -> Protocol:
        return Protocol.load(self.folder / "protocol.json")

    @cached_property
    def records(self) -> list[EpisodeRecord]:
        return store.read(self.folder / "episodes.jsonl")

    @cached_property
    def summary(self) -> Summary:
        return summarise(self.records)

    def recordings(self) -> list[Path]:
        """Recorded episodes: the first initial state of every task, then the second, ..."""
        tasks, seeds = self.protocol.tasks, self.protocol.seeds
        paths = (recording_path(self.folder, task, seed) for seed in seeds for task in tasks)
        return [path for path in paths if path.exists()]


def star_of(runs: Sequence[Run]) -> Run:
    """The run the report is about: with exits if there is one, else full depth, else the last."""
    if not runs:
        raise ValueError("a report needs at least one run")
    for role in ("exits", "full"):
        if found := [run for run in runs if run.role == role]:
            return found[0]
    return runs[-1]


def by_role(runs: Sequence[Run]) -> dict[str, Run]:
    return {run.role: run for run in reversed(runs)}
