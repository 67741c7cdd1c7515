"""Collecting demonstrations: parallel, resumable, and the same whatever the number of processes.

Every task gets the first ``episodes`` successes of its seeds ``first_seed, first_seed + 1, ...``.
Attempts are handed out and written in one fixed order while processes work ahead; failures are
dropped and counted with their reason.  Attempts are journalled with the episodes, so an interrupted
collection goes on with the seed after the last one that was safely stored.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costep.data.episode import EpisodeLike
from costep.data.write import EpisodeWriter

log = logging.getLogger(__name__)

# (task, seed, noise, images) -> an episode, or None when the demonstrator failed; must be picklable
Demonstrate = Callable[[str, int, float, bool], EpisodeLike | None]
AHEAD = 8  # attempts handed out before the oldest is written; part of the order, hence a constant
TRAINING_SEEDS = 1_000_000  # evaluation uses seeds far below


@dataclass(frozen=True)
class Progress:
    """After one attempt: its task and seed, why it was dropped ("" if kept), and the totals."""

    task: str
    seed: int
    reason: str
    kept: int
    wanted: int
    dropped: int


def collect(
    writer: EpisodeWriter,
    demonstrate: Demonstrate,
    tasks: Sequence[str],
    episodes: int,
    *,
    noise: float = 0.0,
    first_seed: int = TRAINING_SEEDS,
    processes: int = 2,
    patience: int = 20,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Write ``episodes`` successes of each task and finish the data set; returns its folder.

    Raises RuntimeError after ``patience`` failures of one task in a row.  What was collected stays in
    ``writer.partial``; calling again with a new writer on the same folder continues.
    """
    request = {"tasks": list(tasks), "noise": noise, "first_seed": first_seed}
    plan = _Plan(request, episodes, writer.notes)
    with writer, _pool(processes) as pool:
        for task, seed, episode, reason in _attempts(pool, demonstrate, plan):
            if episode is not None:
                writer.add(episode, task)
            plan.record(task, seed, reason)
            if progress:
                progress(plan.progress(task, seed, reason))
            if plan.failed_in_a_row(task) >= patience:
                raise RuntimeError(
                    f"task {task!r} failed {patience} times in a row, last: {reason}; fix the "
                    f"demonstrator and run again, {plan.total} episodes are safe"
                )
    return writer.finalise()


class _Plan:
    """Which attempt comes next; its ledger ``notes`` is committed with the episodes."""

    def __init__(self, request: dict[str, Any], episodes: int, notes: dict[str, Any]) -> None:
        if notes.setdefault("request", request) != request:
            raise ValueError(
                f"this collection was started with {notes['request']}, not {request}; "
                "ask for the same or use another folder"
            )
        self.request, self.episodes, self.notes = request, episodes, notes
        self.attempts: list[dict[str, Any]] = notes.setdefault("attempts", [])
        self._tried = Counter(a["task"] for a in self.attempts)
        self._kept = Counter(a["task"] for a in self.attempts if not a["reason"])
        self._pending: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._kept.total()

    def next(self) -> tuple[str, int] | None:
        """The task with the fewest episodes kept or under way, and its next seed."""
        under_way = self._kept + self._pending
        task = min(self.request["tasks"], key=lambda name: under_way[name])
        if under_way[task] >= self.episodes:
            return None
        seed = self.request["first_seed"] + self._tried[task]
        self._tried[task] += 1
        self._pending[task] += 1
        return task, seed

    def record(self, task: str, seed: int, reason: str) -> None:
        self._pending[task] -= 1
        self._kept[task] += not reason
        self.attempts.append({"task": task, "seed": seed, "reason": reason})

    def failed_in_a_row(self, task: str) -> int:
        newest = (a["reason"] for a in reversed(self.attempts) if a["task"] == task)
        return sum(1 for _ in itertools.takewhile(bool, newest))

    def progress(self, task: str, seed: int, reason: str) -> Progress:
        wanted = self.episodes * len(self.request["tasks"])
        return Progress(task, seed, reason, self.total, wanted, len(self.attempts) - self.total)


def dropped(notes: dict[str, Any]) -> dict[str, int]:
    """Reasons and how many attempts each cost, from a data set's notes."""
    return dict(Counter(a["reason"] for a in notes["attempts"] if a["reason"]))


def _attempts(
    pool: Executor | None, demonstrate: Demonstrate, plan: _Plan
) -> Iterator[tuple[str, int, EpisodeLike | None, str]]:
    """Attempts in the order they were handed out: (task, seed, episode or None, reason)."""
    queue: deque[tuple[str, int, Future[Any]]] = deque()
    while True:
        while len(queue) < AHEAD and (job := plan.next()):
            queue.append((*job, _submit(pool, demonstrate, *job, plan.request["noise"])))
        if not queue:
            return
        task, seed, future = queue.popleft()
        yield task, seed, *future.result()


def _submit(
    pool: Executor | None, demonstrate: Demonstrate, task: str, seed: int, noise: float
) -> Future[Any]:
    if pool is not None:
        return pool.submit(attempt, demonstrate, task, seed, noise)
    done: Future[Any] = Future()
    done.set_result(attempt(demonstrate, task, seed, noise))
    return done


def attempt(
    demonstrate: Demonstrate, task: str, seed: int, noise: float
) -> tuple[EpisodeLike | None, str]:
    """One try: (episode, "") or (None, why not); a demonstrator that raises has failed."""
    try:
        episode = demonstrate(task, seed, noise, True)
    except Exception as error:
        log.exception("demonstrating %s, seed %d", task, seed)
        return None, f"{type(error).__name__}: {error}"
    if episode is None or not episode.success:
        return None, "the demonstrator did not succeed"
    return episode, ""


class _pool:
    """Worker processes, or None for one process; interrupted work is dropped on the way out."""

    def __init__(self, processes: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            context = multiprocessing.get_context("spawn")  # GL contexts do not survive a fork
            self._pool = ProcessPoolExecutor(processes, context, _ignore_interrupts)

    def __enter__(self) -> ProcessPoolExecutor | None:
        return self._pool

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C is for the parent, which still writes what is finished."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
