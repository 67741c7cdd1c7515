"""Everything that is asked of a borrowed GPU machine, in commands of a few minutes.

There, in the repository, after ``source runs/gpu_setup.sh``:

    python3 runs/gpu_desk.py latency --out "$OUT"
    python3 runs/gpu_desk.py train s2vla focusvla a1_flow --size small --out "$OUT"
    python3 runs/gpu_desk.py bring --parts 4:8 --out "$OUT"        # what did not fit the first time

Here, with what came back:

    python runs/gpu_desk.py home FOLDER ...

``train`` gathers demonstrations into a frame cache, trains every preset and seed side by side,
stores the checkpoints in bf16, calibrates and evaluates them on all cores, and leaves in ``--out``:
rows.json, evaluations.tar.gz, parcel.json and parts of the checkpoints.  It ends within
``--minutes``; the same command goes on from there as long as the machine keeps ``outputs/``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from gpu_jobs import Deadline, Job, run
from gpu_results import deliver, receive, send
from gpu_run import WORK, Run, costep

PROBE_STEPS = 50
RESERVE = {"tiny": 2.0, "small": 2.5}  # minutes kept for calibration, evaluation and packing
SAFETY = 0.9  # of the measured speed
START = 0.7  # minutes until a training process makes its first step, the cache's checksums included


def main() -> None:
    arguments = _parser().parse_args()
    arguments.act(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    latency = commands.add_parser("latency", help="benchmarks/latency.py, results into --out")
    latency.add_argument("--device", default="cuda")
    latency.add_argument("--sizes", nargs="*", default=["tiny", "small"])
    latency.add_argument("--dtypes", nargs="*", default=["fp32", "bf16"])
    latency.add_argument("--rounds", type=int, default=200)
    latency.add_argument("--presets", nargs="*", default=[])
    latency.add_argument("--peaks", nargs=2, metavar=("TFLOPS", "TERABYTES"), default=())
    latency.set_defaults(act=time_queries)

    training = commands.add_parser("train", help="gather, train, calibrate, evaluate, pack")
    training.add_argument("presets", nargs="+", metavar="PRESET")
    training.add_argument("--label", default="families", help="first part of the runs' names")
    training.add_argument("--size", default="small", choices=("tiny", "small"))
    training.add_argument("--seeds", nargs="*", type=int, default=[0])
    training.add_argument("--demonstrations", type=int, default=1200, help="per task")
    training.add_argument("--share", type=float, default=0.2, help="of their frames drawn")
    training.add_argument("--tasks", nargs="*", default=[], help="train on these (default: all)")
    training.add_argument("--steps", type=int, help="default: as many as the time allows")
    training.add_argument("--batch-size", type=int, default=128)
    training.add_argument("--episodes", type=int, default=25, help="evaluated per task")
    training.add_argument("--samples", type=int, default=2000, help="queries for calibration")
    training.add_argument("--minutes", type=float, default=9.0, help="of this command in all")
    training.add_argument("--conclude", action="store_true", help="evaluate unfinished training")
    training.set_defaults(act=train)

    bring = commands.add_parser("bring", help="further parts of the packed checkpoints")
    bring.set_defaults(act=send)
    for command in (training, bring):
        command.add_argument("--parts", default="0:4", metavar="FIRST:STOP")
    for command in (latency, training, bring):
        command.add_argument("--out", type=Path, required=True)

    home = commands.add_parser("home", help="put what came back where it belongs")
    home.add_argument("folders", nargs="+", type=Path)
    home.set_defaults(act=receive)
    return parser


# ---- there: latency ------------------------------------------------------------------------------
def time_queries(arguments: argparse.Namespace) -> None:
    words = ["--device", arguments.device, "--sizes", *arguments.sizes]
    words += ["--dtypes", *arguments.dtypes, "--rounds", str(arguments.rounds)]
    words += ["--presets", *arguments.presets] if arguments.presets else []
    if arguments.peaks:
        words += ["--tflops", arguments.peaks[0], "--terabytes", arguments.peaks[1]]
    out = arguments.out / f"latency_{arguments.device}.json"
    os.execv(sys.executable, [sys.executable, "benchmarks/latency.py", *words, "--out", str(out)])


# ---- there: train --------------------------------------------------------------------------------
def train(arguments: argparse.Namespace) -> None:
    """All stages; each skips what is done, so that the same command continues."""
    deadline = Deadline.after(arguments.minutes)
    runs = [
        Run(arguments.label, preset, arguments.size, seed)
        for preset in arguments.presets
        for seed in arguments.seeds
    ]
    cache = gather(arguments, deadline)
    reserve = RESERVE[arguments.size]
    plans = plan(arguments, runs, cache, deadline.earlier(reserve))
    learn(arguments, runs, cache, plans, deadline.earlier(reserve))
    ready = [r for r in runs if export(r, arguments.conclude)]
    judge(arguments, ready, cache, deadline)
    deliver(arguments, runs, ready)


def gather(arguments: argparse.Namespace, deadline: Deadline) -> Path:
    """One frame cache for all runs of a size: every task, whatever is trained on."""
    from costep.presets import preset

    pixels = preset(arguments.presets[0], arguments.size).backbone.sizes.pixels
    name = f"demonstrations-{arguments.demonstrations}-{arguments.share:g}-{pixels}"
    cache = WORK / name
    words = ("collect", "--episodes", arguments.demonstrations, "--share", arguments.share)
    words += ("--direct-cache", pixels, "--processes", min(8, _cores()), "--out", cache)
    job = costep("gather", WORK / f"{name}.log", *words, done=cache / "cache.json")
    _must(run([job], deadline, 1))
    return cache


def plan(
    arguments: argparse.Namespace, runs: list[Run], cache: Path, deadline: Deadline
) -> dict[str, int]:
    """Optimiser steps of each run: as asked, or what a trial of all runs together says will fit."""
    if arguments.steps is None:
        trial = ("--steps", PROBE_STEPS, "--checkpoint-every", 0, "--out")
        jobs = [
            training(arguments, r, cache, *trial, r.folder / "probe", result="probe.json")
            for r in runs
        ]
        _must(run(jobs, deadline, len(jobs)))
    for r in runs:
        file = r.folder / "plan.json"
        if not file.exists():
            steps = arguments.steps or _fitting(r, arguments.batch_size, deadline.minutes)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"steps": steps, "batch_size": arguments.batch_size}))
    return {r.name: r.read("plan")["steps"] for r in runs}


def _fitting(r: Run, batch_size: int, minutes: float) -> int:
    rate = r.read("probe")["samples_per_second"] / batch_size
    return max(PROBE_STEPS, int(SAFETY * rate * 60 * (minutes - START)))


def learn(
    arguments: argparse.Namespace,
    runs: list[Run],
    cache: Path,
    plans: dict[str, int],
    deadline: Deadline,
) -> None:
    """Train side by side; each stops by itself, with a checkpoint, when the time is up."""
    jobs = []
    for r in runs:
        steps, result = plans[r.name], r.folder / "train.json"
        if r.has("train") and r.read("train")["steps"] < steps:
            result.unlink()
        limits = ("--steps", steps, "--minutes", f"{max(0.05, deadline.minutes - 0.4):.2f}")
        words = (*limits, "--checkpoint-every", max(100, steps // 10), "--out", r.folder / "train")
        jobs.append(training(arguments, r, cache, *words, result="train.json"))
    report("training", run(jobs, deadline, len(jobs)))


def training(
    arguments: argparse.Namespace, r: Run, cache: Path, *words: object, result: str
) -> Job:
    tasks = ("--tasks", *arguments.tasks) if arguments.tasks else ()
    what = ("train", cache, "--preset", r.preset, "--size", r.size, "--seed", r.seed, *tasks)
    options = ("--batch-size", arguments.batch_size, "--ema", 0.998)
    target = r.folder / result
    log = r.folder / "train.log"
    return costep(r.name, log, *what, *options, *words, "--json", target, done=target, threads=2)


def export(r: Run, unfinished_too: bool) -> bool:
    """The checkpoint as it travels and is judged, in bf16; False while training goes on."""
    if r.exported.exists():
        return True
    if not r.has("train"):
        return False
    trained, planned = r.read("train"), r.read("plan")["steps"]
    if trained["steps"] < planned and not unfinished_too:
        print(f"{r.name}: {trained['steps']} of {planned} steps; run the command again")
        return False
    import torch

    from costep.commands.train import processor_writers
    from costep.train import checkpoint

    loaded = checkpoint.load(trained["checkpoint"])
    checkpoint.save(
        r.exported,
        loaded.policy,
        loaded.contract,
        settings=trained,
        dtype=torch.bfloat16,
        extra_writers=processor_writers(),
    )
    return True


# ---- there: calibrate and evaluate ---------------------------------------------------------------
def judge(arguments: argparse.Namespace, runs: list[Run], cache: Path, deadline: Deadline) -> None:
    """Calibration, then every task of every run in a process of its own, then the summaries."""
    threads = max(1, _cores() // max(1, len(runs)))
    words = ("--data", cache, "--samples", arguments.samples, "--json")
    calibrations = [
        costep(r.name, r.folder / "calibrate.log", "calibrate", r.exported, *words,
               r.folder / "calibrate.json", done=r.folder / "calibrate.json", threads=threads)
        for r in runs
    ]  # fmt: skip
    report("calibration", run(calibrations, deadline, len(runs)))
    kinds = [(r, kind) for r in runs for kind in _kinds(r)]
    parts = [part for r, kind in kinds for part in _parts(arguments, r, kind)]
    report("evaluation", run(parts, deadline, _cores()))
    for r, kind in kinds:
        _merge(r.folder / kind)
    for which in ("full", "exits"):  # the second is compared with the first
        wholes = [_evaluation(arguments, r, k, r.folder / k) for r, k in kinds if k == which]
        report(f"summary, {which}", run(wholes, deadline, _cores()))


def _kinds(r: Run) -> tuple[str, ...]:
    return ("full", "exits") if r.has("calibrate") else ("full",)


def _parts(arguments: argparse.Namespace, r: Run, kind: str) -> list[Job]:
    from costep.sim import desk

    if r.has(kind):
        return []
    folder = r.folder / f"{kind}-parts"
    return [_evaluation(arguments, r, kind, folder / task, task) for task in desk.TASKS]


def _evaluation(
    arguments: argparse.Namespace, r: Run, kind: str, folder: Path, task: str | None = None
) -> Job:
    """Of one task, or of all: then it finds the parts' episodes done and only sums them up."""
    words: tuple[object, ...] = ("eval", r.exported, "--episodes", arguments.episodes)
    words += ("--video-every", 0, "--exits", "auto" if kind == "exits" else "off", "--out", folder)
    words += ("--tasks", task) if task else ()
    words += ("--compare", r.folder / "full") if kind == "exits" and task is None else ()
    result = r.folder / f"{kind}.json" if task is None else folder / "result.json"
    name = f"{r.name} {kind} {task or 'all'}"
    return costep(name, r.folder / "eval.log", *words, "--json", result, done=result)


def _merge(folder: Path) -> None:
    """The parts' episodes as those of one evaluation."""
    lines: list[str] = []
    for part in sorted(folder.with_name(f"{folder.name}-parts").glob("*/episodes.jsonl")):
        text = part.read_text()
        lines += text[: text.rfind("\n") + 1].splitlines(keepends=True)
    target = folder / "episodes.jsonl"
    if lines and not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        target.with_suffix(".tmp").write_text("".join(lines))
        os.replace(target.with_suffix(".tmp"), target)


# ---- small parts ---------------------------------------------------------------------------------
def report(stage: str, problems: dict[str, str]) -> None:
    failed = {name: problem for name, problem in problems.items() if problem}
    print(f"{stage}: {len(problems) - len(failed)} of {len(problems)} done", flush=True)
    for name, problem in failed.items():
        print(f"  {name}: {problem}", flush=True)


def _must(problems: dict[str, str]) -> None:
    report("/".join(sorted(problems)), problems)
    if any(problems.values()):
        raise SystemExit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
