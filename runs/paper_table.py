"""One table or figure of the papers as costep commands, with the paper's numbers beside ours.

    python runs/paper_table.py --table s2_3 --dry-run          # cost and commands, nothing else
    python runs/paper_table.py --table s2_3 --smoke            # every row once, no success claim
    python runs/paper_table.py --table focus_2 --size small --rows "cascaded, 256, no gate, VLM"
    python runs/paper_table.py --table s2_3 --size full --data DATASET

``tiny`` and ``small`` train on desk demonstrations and are evaluated on desk from equal initial
states.  That is another benchmark than the paper's, so only differences between rows compare.
``full`` needs weights and the paper's data, and only trains: closed-loop evaluation on the papers'
benchmarks is not part of this version.  What is finished is kept; the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from paper_page import report, save, stored
from published import TABLES, Row, Table

BASE = Path("checkpoints/desk_base")
OUT = Path("outputs/runs/tables")
DEPTH = {"tiny": 6, "small": 12, "full": 24}  # of a step head
PIXELS = {"tiny": 96, "small": 128}
STEPS = {"tiny": 4000, "small": 20_000}
BATCH = {"tiny": 96, "small": 128}
SMOKE_TASK = "button"
# Forward GFLOP of one query: tiny and small counted (flops.counted), full from shapes, two cameras
FORWARD = {
    "tiny": {"s2vla": 0.144, "focusvla": 0.150, "vla_adapter": 0.144, "oft": 0.227,
             "a1_mlp": 0.227, "a1_flow": 0.334},
    "small": {"s2vla": 8.80, "focusvla": 8.92, "vla_adapter": 8.80, "oft": 9.37,
              "a1_mlp": 9.37, "a1_flow": 10.29},
    "full": {"s2vla": 1030.0, "focusvla": 1250.0, "vla_adapter": 1250.0, "oft": 1200.0,
             "a1_mlp": 5510.0, "a1_flow": 5560.0},
}  # fmt: skip
SPEED = {"tiny": 340.0}  # samples/s of training, two CPU cores (docs/results/desk_base.md)
EPISODE = 3.0  # seconds of an episode, tiny on one core
H100 = 400.0  # TFLOP/s in bf16 that a training step may reach


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    table = TABLES[arguments.table]
    rows = chosen(table, arguments.rows)
    print(table.title)
    print(cost(table, rows, arguments))
    results = stored(arguments)
    if arguments.dry_run:
        print("\n" + report(table, results, arguments.size))
        for row in rows:
            print(f"\n{row.name}" + (f"   (not run: {row.needs})" if row.needs else ""))
            for command in commands(table, row, arguments):
                print("  " + " ".join(command))
        return
    if arguments.size == "full" and arguments.data is None:
        raise SystemExit("--size full needs --data DATASET and the backbone's weights")
    for row in rows:
        if not row.needs:
            results[row.name] = run(table, row, arguments)
            if not arguments.smoke:
                save(table, arguments, results)
    if arguments.smoke:
        print("smoke: every row trained and acted; their success says nothing")
    else:
        print(report(table, results, arguments.size))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", required=True, choices=sorted(TABLES))
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "full"))
    parser.add_argument("--rows", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--smoke", action="store_true", help="two steps, one episode per row")
    parser.add_argument("--dry-run", action="store_true", help="print cost and commands and stop")
    parser.add_argument("--data", type=Path, help="the paper's data, with --size full")
    parser.add_argument("--scenes", type=int, default=3000, help="demonstrations per desk task")
    parser.add_argument("--steps", type=int, help="default: STEPS, or the recipe's")
    parser.add_argument("--episodes", type=int, default=63, help="per task; 63 x 8 = 504")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def chosen(table: Table, names: list[str] | None) -> list[Row]:
    """The rows to run, the one that others are compared with first."""
    rows = [r for r in table.rows if r.preset and (not names or r.name in names)]
    unknown = set(names or ()) - {r.name for r in table.rows}
    if unknown:
        raise SystemExit(f"no row {sorted(unknown)}; choose from {[r.name for r in table.rows]}")
    return sorted(rows, key=lambda r: r.name != table.against)


def resized(switches: tuple[str, ...], size: str) -> list[str]:
    """Gate layers of 24 moved to the same share of a shallower head; everything else as it is."""

    def move(match: re.Match[str]) -> str:
        layers = [int(n) for n in match[1].split(",") if n]
        moved = sorted({max(1, int(n * DEPTH[size] / 24 + 0.5)) for n in layers})
        return f"head.gate.layers=[{','.join(map(str, moved))}]"

    return [re.sub(r"head\.gate\.layers=\[([\d,]*)\]", move, s) for s in switches]


# ---- what is run ---------------------------------------------------------------------------------
def commands(table: Table, row: Row, arguments: argparse.Namespace) -> list[list[str]]:
    """The ``costep`` commands of a row, each as words."""
    folder, data = place(row, arguments), demonstrations(arguments)
    switches = resized(row.switches, arguments.size)
    words: list[object] = ["train", arguments.data or data]
    if arguments.size == "full":
        words += trained_by(table, row)
    else:
        words += ["--preset", row.preset, "--size", arguments.size, "--no-augment"]
        words += ["--batch-size", 4 if arguments.smoke else BATCH[arguments.size]]
        words += ["--ema", 0.998] if not arguments.smoke else ["--precision", "fp32"]
        words += ["--backbone", BASE] if arguments.size == "tiny" else []
    steps = 2 if arguments.smoke else arguments.steps or STEPS.get(arguments.size)
    words += ["--steps", steps] if steps and "--steps" not in words else []
    words += ["--seed", arguments.seed, "--out", folder / "train"]
    words += ["--set", *switches] if switches else []
    made = [words]
    if arguments.size != "full":
        made.append(evaluation(row, arguments))
        made.insert(0, collection(arguments))
    return [["costep", *(str(w) for w in words)] for words in made]


def trained_by(table: Table, row: Row) -> list[object]:
    """The table's recipe, or for a row of another preset its steps and batch."""
    from costep.train.recipe import load

    recipe = load(row.recipe or table.recipe)
    if row.preset == recipe.preset:
        return ["--recipe", recipe.name]
    words = ["--preset", row.preset, "--size", "full", "--steps", recipe["steps"]]
    return [*words, "--batch-size", recipe["batch"]]


def collection(arguments: argparse.Namespace) -> list[object]:
    drawn = ["--direct-cache", PIXELS[arguments.size], "--share", 0.15, "--seed", 5]
    if arguments.smoke:
        drawn = [SMOKE_TASK, "--episodes", 3, "--processes", 1, *drawn]
    else:
        drawn = ["--episodes", arguments.scenes, *drawn]
    return ["collect", *drawn, "--out", demonstrations(arguments)]


def evaluation(row: Row, arguments: argparse.Namespace) -> list[object]:
    folder = place(row, arguments)
    words: list[object] = ["eval", folder / "train", "--n-action-steps", 4, "--video-every", 0]
    words += ["--episodes", 1 if arguments.smoke else arguments.episodes]
    words += ["--tasks", SMOKE_TASK] if arguments.smoke else []
    return [*words, "--out", folder / "eval"]


def run(table: Table, row: Row, arguments: argparse.Namespace) -> dict:
    """Run the commands of a row that have no result yet; results by command, and the comparison."""
    from costep.cli import main as costep
    from costep.evaluate.compare import compare_runs

    result: dict = {}
    for _, *words in commands(table, row, arguments):
        if words[0] == "collect" and Path(words[-1]).exists():
            continue
        done = place(row, arguments) / f"{words[0]}.json"
        if not done.exists() and costep([*words, "--json", str(done)]):
            raise SystemExit(f"{row.name}: costep {words[0]} failed; the same command goes on")
        result[words[0]] = json.loads(done.read_text())
    other = next(r for r in table.rows if r.name == table.against)
    if row != other and (place(other, arguments) / "eval.json").exists():
        folders = (place(r, arguments) / "eval" for r in (row, other))
        result["comparison"] = compare_runs(*folders).to_json()
    return result


def demonstrations(arguments: argparse.Namespace) -> Path:
    if arguments.size == "full":
        return arguments.data or Path("DATASET")
    name = "smoke" if arguments.smoke else f"scenes-{arguments.scenes}"
    return OUT / f"{name}-{PIXELS[arguments.size]}"


def place(row: Row, arguments: argparse.Namespace) -> Path:
    """The folder of a row: switches, size and seed decide, so that tables share equal rows."""
    words = [row.preset or "", *resized(row.switches, arguments.size)]
    name = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower().replace("head.", "")).strip("-")
    kind = "smoke" if arguments.smoke else f"{arguments.size}-{arguments.seed}"
    return OUT / kind / name


# ---- what it costs -------------------------------------------------------------------------------
def cost(table: Table, rows: list[Row], arguments: argparse.Namespace) -> str:
    """Samples, FLOPs and time of what the rows would train and evaluate, before anything runs."""
    live = [r for r in rows if not r.needs]
    if arguments.smoke:
        return f"smoke: {len(live)} rows, two steps and one episode each, about a minute"
    steps, batch = _schedule(table, arguments)
    samples = steps * batch
    flop = sum(3 * FORWARD[arguments.size][r.preset] for r in live) * samples * 1e9
    text = f"{len(live)} rows, {samples:,} samples each, {flop:.1e} FLOP of training in all: "
    if arguments.size == "tiny":
        episodes = 8 * arguments.episodes
        hours = len(live) * (samples / SPEED["tiny"] + episodes * EPISODE) / 3600
        return text + f"about {hours:.0f} h on two CPU cores, {episodes} episodes a row included"
    return text + f"about {flop / (H100 * 1e12) / 3600:,.1f} h of one H100 at {H100:.0f} TFLOP/s"


def _schedule(table: Table, arguments: argparse.Namespace) -> tuple[int, int]:
    if arguments.size != "full":
        return arguments.steps or STEPS[arguments.size], BATCH[arguments.size]
    from costep.train.recipe import load

    recipe = load(table.recipe)
    return arguments.steps or recipe["steps"], recipe["batch"]


if __name__ == "__main__":
    sys.exit(main())
