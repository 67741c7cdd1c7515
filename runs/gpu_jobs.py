"""Commands side by side, within a wall-clock limit that nothing may outlast."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE = 20.0  # seconds between asking a job to stop, which saves its work, and ending it


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock."""

    end: float

    @classmethod
    def after(cls, minutes: float) -> Deadline:
        return cls(time.monotonic() + 60 * minutes)

    @property
    def minutes(self) -> float:
        """What is left, never negative."""
        return max(0.0, self.end - time.monotonic()) / 60

    def earlier(self, minutes: float) -> Deadline:
        return Deadline(self.end - 60 * minutes)


@dataclass(frozen=True)
class Job:
    """One process; its output goes to ``log``.  done: a file that says it need not run (again)."""

    name: str
    words: tuple[str, ...]
    log: Path
    threads: int = 1
    done: Path | None = None

    def start(self) -> subprocess.Popen[bytes]:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        count = str(self.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        with self.log.open("ab") as log:
            return subprocess.Popen(self.words, stdout=log, stderr=log, env=environment)


def run(jobs: Sequence[Job], deadline: Deadline, at_once: int) -> dict[str, str]:
    """Run jobs in order, ``at_once`` at a time; name -> "" or why it did not finish.

    At the deadline what runs is asked to stop, and ended after ``GRACE`` seconds.
    """
    waiting = [job for job in jobs if job.done is None or not job.done.exists()]
    problems = {job.name: "" for job in jobs}
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    while waiting or running:
        if deadline.minutes == 0:
            problems |= {job.name: "no time left" for job in waiting}
            problems |= _stop(running)
            break
        while waiting and len(running) < at_once:
            job = waiting.pop(0)
            running.append((job, job.start()))
        for job, process in [r for r in running if r[1].poll() is not None]:
            running.remove((job, process))
            if process.returncode:
                problems[job.name] = f"exit code {process.returncode}: {_last_line(job.log)}"
        time.sleep(0.2)
    return problems


def _stop(running: list[tuple[Job, subprocess.Popen[bytes]]]) -> dict[str, str]:
    for _, process in running:
        process.terminate()
    end = time.monotonic() + GRACE
    for _, process in running:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return {job.name: "stopped, no time left" for job, _ in running}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "no output"
