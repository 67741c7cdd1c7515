"""One training run on the GPU machine: its name, its folders, and the commands made for it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_jobs import Job

WORK = Path("outputs/gpu")


@dataclass(frozen=True)
class Run:
    """One preset with one seed."""

    label: str
    preset: str
    size: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.label}-{self.preset}-{self.size}-{self.seed}"

    @property
    def folder(self) -> Path:
        return WORK / self.name

    @property
    def exported(self) -> Path:
        """The checkpoint in bf16, as it is judged and travels."""
        return self.folder / "export"

    def has(self, result: str) -> bool:
        return (self.folder / f"{result}.json").exists()

    def read(self, result: str) -> dict[str, Any]:
        """What a stage left: plan, probe, train, calibrate, full or exits."""
        return json.loads((self.folder / f"{result}.json").read_text())


def costep(name: str, log: Path, *words: object, done: Path | None = None, threads: int = 1) -> Job:
    """A ``costep`` command as a job."""
    command = (sys.executable, "-m", "costep.cli", *(str(w) for w in words))
    return Job(name, command, log, threads, done)
