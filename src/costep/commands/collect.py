"""``costep collect``: scripted experts demonstrate desk tasks; the result is a LeRobotDataset v3.0.

With ``--direct-cache PIXELS`` it is a frame cache instead: no video, and no LeRobot needed.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="desk tasks (default: all)")
    parser.add_argument("--episodes", type=int, default=50, help="demonstrations per task")
    parser.add_argument(
        "--noise", type=float, default=0.4, help="pushes that teach recovery (0: none)"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("outputs/collect/desk"))
    parser.add_argument(
        "--direct-cache",
        type=int,
        metavar="PIXELS",
        help="write a frame cache of so many pixels at once, without LeRobot and video",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="with --direct-cache: draw this share of the frames, so that more scenes fit",
    )


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from costep.commands.progress import bar, say
    from costep.data.collect import TRAINING_SEEDS, collect
    from costep.data.contract import named
    from costep.data.gather import gather
    from costep.data.write import EpisodeWriter
    from costep.sim import desk

    tasks = check_tasks(arguments.tasks)
    if arguments.out.exists():
        say(
            f"{arguments.out} is complete already; "
            "delete it or choose another --out to collect again"
        )
        return {"dataset": str(arguments.out), "new": False}
    if arguments.share < 1 and arguments.direct_cache is None:
        raise ValueError(
            "--share leaves out frames, which a video cannot; add --direct-cache PIXELS"
        )
    last = None
    with bar(f"collecting {len(tasks)} task(s)") as line:

        def progress(p) -> None:
            nonlocal last
            last = p
            line.to(p.kept, p.wanted, f"{p.task}, dropped {p.dropped}")

        work = (desk.collect_episode, tasks, arguments.episodes)
        options = {
            "noise": arguments.noise,
            "first_seed": TRAINING_SEEDS + 100_000 * arguments.seed,
            "processes": arguments.processes,
            "progress": progress,
        }
        if arguments.direct_cache is None:
            writer = EpisodeWriter(arguments.out, f"costep/{arguments.out.name}", named("desk"))
            folder = collect(writer, *work, **options)
        else:
            pixels = arguments.direct_cache
            demonstrate = partial(desk.collect_episode, share=arguments.share)
            work, contract = (demonstrate, *work[1:]), named("desk")
            cache = gather(arguments.out, *work, contract=contract, pixels=pixels, **options)
            folder = cache.path
    dropped = last.dropped if last else 0
    names = ", ".join(tasks)
    say(f"{arguments.episodes} demonstrations of {names} in {folder} ({dropped} dropped)")
    return {"dataset": str(folder), "new": True, "dropped": dropped, "tasks": list(tasks)}


def check_tasks(names: list[str]) -> tuple[str, ...]:
    """The named desk tasks, all of them when none is named."""
    from costep.sim import desk

    known = tuple(desk.TASKS)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ValueError(f"unknown desk task(s) {unknown}; choose from {', '.join(known)}")
    return tuple(names) or known
