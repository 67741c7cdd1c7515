"""``costep inspect``: evaluation folders, or one recorded episode, as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="evaluation folders, or one recording .npz",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/inspect/report.html"))
    parser.add_argument("--title", default="costep: closed-loop evaluation")
    parser.add_argument("--videos", type=int, default=6)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from costep.commands.progress import say
    from costep.evaluate.recording import Recording
    from costep.evaluate.report import write_report
    from costep.inspect.story import Run, report_from_recording, report_from_runs

    paths = arguments.paths
    if len(paths) == 1 and paths[0].suffix == ".npz":
        page = report_from_recording(Recording.load(paths[0]))
    else:
        runs = [Run(path.name, path) for path in paths]
        page = report_from_runs(runs, title=arguments.title, videos=arguments.videos)
    write_report(arguments.out, page)
    say(f"open {arguments.out}")
    return {"report": str(arguments.out)}
