"""Pre-trains the demo's base policy on seven desk tasks.  The demo's own task, ``plate``, is held
out of it: no demonstration of it, no statistic of it, no word of its instructions.

    python runs/desk_base.py                 # writes checkpoints/desk_base and docs/results/desk_base.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from desk_families import OUT, RESULTS, collect, once, rate

from costep.commands.demo import TASK
from costep.commands.train import processor_writers
from costep.sim import desk
from costep.train import checkpoint

BASE = Path("checkpoints/desk_base")
TASKS = [task for task in desk.TASKS if task != TASK]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="composed")
    parser.add_argument("--demonstrations", type=int, default=200)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--episodes", type=int, default=25)
    arguments = parser.parse_args()
    data, folder = collect(arguments.demonstrations), OUT / f"base-{arguments.preset}"
    training = [data, "--preset", arguments.preset, "--tasks", *TASKS, "--steps", arguments.steps]
    training += ["--batch-size", arguments.batch_size, "--ema", 0.998, "--out", folder / "train"]
    training += ["--minutes", arguments.minutes] if arguments.minutes else []
    trained = once(folder / "train.json", "train", *training)
    export(trained["checkpoint"])
    scores = once(
        folder / "eval.json", "eval", BASE, "--episodes", arguments.episodes, "--video-every", 0,
        "--out", folder / "eval",
    )  # fmt: skip
    write(arguments.preset, trained, scores)


def export(source: str) -> None:
    """The checkpoint as it is shipped: bf16 weights, nothing of the training state."""
    loaded = checkpoint.load(source)
    checkpoint.save(
        BASE,
        loaded.policy,
        loaded.contract,
        dtype=torch.bfloat16,
        extra_writers=processor_writers(),
    )


def write(preset: str, trained: dict, scores: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "desk_base.json").write_text(
        json.dumps({"training": trained, "eval": scores}, indent=1) + "\n"
    )
    rows = [f"| {t} | {s['successes']}/{s['trials']} |" for t, s in scores["tasks"].items()]
    text = [
        "# The demo's base policy",
        "",
        f"`{preset}` (tiny), pre-trained by `python runs/desk_base.py` from random initialisation on scripted "
        f"demonstrations of {', '.join(TASKS)}. `{TASK}` is held out: its row below is zero-shot.",
        "",
        f"{trained['steps']} steps ({trained['stopped']}), {trained['samples_per_second']:.0f} samples/s, "
        f"{trained['precision']}, {trained['seconds'] / 60:.0f} minutes in the last session.",
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
