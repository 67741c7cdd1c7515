"""Pre-trains the demo's base policy on seven desk tasks.  The demo's own task is held out of it:
no demonstration of it, no statistic of it, no instruction of it.

    python runs/desk_base.py                 # writes checkpoints/desk_base and docs/results/

The run is resumable: start it again with the same arguments.
"""

from __future__ import annotations

import argparse
import json
import os

import torch
from desk_families import BASE, OUT, RESULTS, gather, once, rate, train

from costep.commands.demo import TASK
from costep.commands.train import processor_writers
from costep.evaluate.records import Score
from costep.sim import desk
from costep.train import checkpoint

TASKS = [task for task in desk.TASKS if task != TASK]
RATES = ("train.lr_backbone=0.0015", "train.lr_head=0.0015")


def main() -> None:
    arguments = _parser().parse_args()
    folder = OUT / f"base-{arguments.preset}"
    words = [gather(3000), "--preset", arguments.preset, "--tasks", *TASKS, "--set", *RATES]
    stage = train(folder, words, arguments.steps, arguments.batch_size, arguments.processes)
    export(stage["checkpoint"])
    words = [BASE, "--episodes", arguments.episodes, "--n-action-steps", 4, "--video-every", 0]
    scores = once(folder / "eval.json", "eval", *words, "--out", folder / "eval")
    write(arguments.preset, stage, scores)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="composed")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch-size", type=int, default=96, help="over all processes")
    parser.add_argument("--processes", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--episodes", type=int, default=25, help="evaluation episodes per task")
    return parser


def export(source: str) -> None:
    """The checkpoint as it is shipped: bf16 weights, nothing of the training state."""
    loaded = checkpoint.load(source)
    bf16, writers = torch.bfloat16, processor_writers()
    checkpoint.save(BASE, loaded.policy, loaded.contract, dtype=bf16, extra_writers=writers)


def write(preset: str, stage: dict, scores: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    facts = {"training": stage, "eval": scores}
    (RESULTS / "desk_base.json").write_text(json.dumps(facts, indent=1) + "\n")
    rows = [f"| {t} | {s['successes']}/{s['trials']} |" for t, s in scores["tasks"].items()]
    text = [
        "# The demo's base policy",
        "",
        f"`{preset}` (tiny), pre-trained from random initialisation by `python runs/desk_base.py`",
        f"on scripted demonstrations of {', '.join(TASKS)}.",
        f"`{TASK}` is held out: its row below is zero-shot.",
        "",
        f"{stage['steps']} steps ({stage['stopped']}), {stage['seconds'] / 60:.0f} minutes, "
        f"{stage['samples_per_second']:.0f} samples/s, last loss {stage['last_loss']:.3f}, "
        f"{stage['precision']}.",
        "",
        f"Success at full depth on the seven tasks it was trained on: {trained(scores)}; "
        f"over all eight: {rate(scores)}.",
        "",
        "| task | success |",
        "|---|---|",
        *rows,
        "",
    ]
    (RESULTS / "desk_base.md").write_text("\n".join(text))


def trained(scores: dict) -> str:
    """Successes on the tasks of training, with interval."""
    solved = sum(scores["tasks"][t]["successes"] for t in TASKS)
    return str(Score(solved, sum(scores["tasks"][t]["trials"] for t in TASKS)))


if __name__ == "__main__":
    main()
