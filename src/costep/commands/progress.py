"""Progress bars for long work, on stderr, silent when it is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Bar:
    """One line that says how far the work is; ``to(done, total, text)`` moves it."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task

    def to(self, done: int, total: int, text: str = "") -> None:
        self._progress.update(self._task, completed=done, total=total, note=text)


@contextmanager
def bar(title: str) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield Bar(progress, progress.add_task(title, total=None, note=""))


def say(text: str) -> None:
    """A line for the person at the terminal."""
    from rich.console import Console

    Console(highlight=False, soft_wrap=True).print(text)
