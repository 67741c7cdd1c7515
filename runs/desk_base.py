"""Pre-trains the demo's base policy on seven desk tasks.  The demo's own task is held out of it:
no demonstration of it, no statistic of it, no instruction of it.

    python runs/desk_base.py                 # writes checkpoints/desk_base and docs/results/

Two stages: whole demonstrations first, then six times the scenes with every eighth frame drawn,
because with 200 scenes per task the policy learns where things were instead of how to find them.
On a machine with several cores, prefix with ``OMP_NUM_THREADS=1 torchrun --nproc-per-node N -m
costep.cli train ...`` as the log shows, to train in parallel.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from desk_families import OUT, RESULTS, call, collect, once, rate

from costep.commands.demo import TASK
from costep.commands.train import processor_writers
from costep.sim import desk
from costep.train import checkpoint

BASE = Path("checkpoints/desk_base")
SCENES = OUT / "scenes-1200"
TASKS = [task for task in desk.TASKS if task != TASK]


def main() -> None:
    arguments = _parser().parse_args()
    folder = OUT / f"base-{arguments.preset}"
    first = train(
        folder / "demonstrations", collect(200), arguments.steps[0], ["--preset", arguments.preset]
    )
    if not SCENES.exists():
        drawn = ["--direct-cache", 96, "--share", 0.12, "--seed", 3]
        call("collect", "--episodes", 1200, *drawn, "--out", SCENES)
    second = train(folder / "scenes", SCENES, arguments.steps[1], ["--init", first["checkpoint"]])
    export(second["checkpoint"])
    words = [BASE, "--episodes", arguments.episodes, "--n-action-steps", 4, "--video-every", 0]
    scores = once(folder / "eval.json", "eval", *words, "--out", folder / "eval")
    write(arguments.preset, [first, second], scores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="composed")
    parser.add_argument("--steps", type=int, nargs=2, default=(2000, 3900), help="of each stage")
    parser.add_argument("--episodes", type=int, default=25, help="evaluation episodes per task")
    return parser


def train(folder: Path, data: Path, steps: int, start: list) -> dict:
    """One stage; its result is kept beside its folder."""
    words = [data, *start, "--tasks", *TASKS, "--steps", steps, "--batch-size", 64, "--ema", 0.998]
    return once(folder.with_suffix(".json"), "train", *words, "--out", folder)


def export(source: str) -> None:
    """The checkpoint as it is shipped: bf16 weights, nothing of the training state."""
    loaded = checkpoint.load(source)
    bf16, writers = torch.bfloat16, processor_writers()
    checkpoint.save(BASE, loaded.policy, loaded.contract, dtype=bf16, extra_writers=writers)


def write(preset: str, stages: list[dict], scores: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = {"stages": stages, "eval": scores}
    (RESULTS / "desk_base.json").write_text(json.dumps(facts, indent=1) + "\n")
    rows = [f"| {t} | {s['successes']}/{s['trials']} |" for t, s in scores["tasks"].items()]
    told = [
        f"- stage {i}: {s['steps']} steps ({s['stopped']}), last loss {s['last_loss']:.3f}, "
        f"{s['precision']}"
        for i, s in enumerate(stages, 1)
    ]
    text = [
        "# The demo's base policy",
        "",
        f"`{preset}` (tiny), pre-trained from random initialisation by `python runs/desk_base.py`",
        f"on scripted demonstrations of {', '.join(TASKS)}.",
        f"`{TASK}` is held out: its row below is zero-shot.",
        "",
        *told,
        "",
        f"Success over all eight tasks at full depth: {rate(scores)}.",
        "",
        "| task | success |",
        "|---|---|",
        *rows,
        "",
    ]
    (RESULTS / "desk_base.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()
