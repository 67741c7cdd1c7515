"""What goes back from the GPU machine, flat files of limited size, and where it belongs here."""

from __future__ import annotations

import argparse
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import gpu_parcel
from gpu_run import WORK, Run

INNER = ("train/metrics.jsonl", "full", "exits", "export/pretrained_model/exits.json")


def deliver(arguments: argparse.Namespace, runs: list[Run], ready: list[Run]) -> None:
    """rows.json, evaluations.tar.gz and the first parts of the checkpoints."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = [row(arguments, r) for r in ready if r.has("full")]
    (arguments.out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
    for r in rows:
        print(json.dumps({k: r[k] for k in ("preset", "size", "seed")} | _short(r)))
    with tarfile.open(arguments.out / "evaluations.tar.gz", "w:gz") as file:
        for r in runs:
            for path in sorted(r.folder.glob("*.json")) + sorted(r.folder.glob("*.log")):
                file.add(path, f"{r.name}/{path.name}")
            for inner in INNER:
                if (r.folder / inner).exists():
                    file.add(r.folder / inner, f"{r.name}/{inner}")
    if ready:
        tar = WORK / "checkpoints.tar"
        tar.unlink(missing_ok=True)
        gpu_parcel.pack({r.name: r.exported for r in ready}, tar)
        send(arguments)


def row(arguments: argparse.Namespace, r: Run) -> dict[str, Any]:
    """As ``desk_families`` keeps them, and what they were trained on."""
    import torch

    trained_on = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "torch": torch.__version__,
        "side_by_side": len(arguments.presets) * len(arguments.seeds),
        "demonstrations": arguments.demonstrations,
        "share": arguments.share,
        "tasks": arguments.tasks or "all",
        "planned_steps": r.read("plan")["steps"],
        "batch_size": arguments.batch_size,
        "evaluated_as": "bf16 weights on the CPU, one thread per process, all cores busy",
    }
    return {
        **{name: getattr(r, name) for name in ("preset", "size", "seed", "label")},
        "training": r.read("train"),
        "full": r.read("full"),
        "exits": r.read("exits") if r.has("exits") else None,
        "trained_on": trained_on,
    }


def _short(row: dict[str, Any]) -> dict[str, Any]:
    exits = row["exits"] or {"success": None, "layers_saved": None}
    return {"success": row["full"]["success"], "with_exits": exits["success"],
            "layers_saved": exits["layers_saved"], "steps": row["training"]["steps"]}  # fmt: skip


def send(arguments: argparse.Namespace) -> None:
    tar = WORK / "checkpoints.tar"
    first, stop = (int(x) for x in arguments.parts.split(":"))
    gpu_parcel.send(tar, arguments.out, first, stop)
    total = gpu_parcel.parts(tar)
    print(f"checkpoints: parts {first} to {min(stop, total) - 1} of {total}")


def receive(arguments: argparse.Namespace) -> None:
    """Rows into docs/results, episodes and whole checkpoints into outputs/gpu/home."""
    home = WORK / "home"
    for folder in arguments.folders:
        for path in folder.glob("latency_*"):
            shutil.copy(path, Path("docs/results") / path.name)
        if (folder / "evaluations.tar.gz").exists():
            with tarfile.open(folder / "evaluations.tar.gz") as file:
                file.extractall(home / "evaluations", filter="data")
        if (folder / "rows.json").exists():
            _keep(json.loads((folder / "rows.json").read_text()))
        if (folder / gpu_parcel.MANIFEST).exists():
            missing = gpu_parcel.receive(folder, home / "parts", home / "checkpoints")
            print(f"{folder}: parts {missing} are missing" if missing else f"{home}/checkpoints")


def _keep(rows: list[dict[str, Any]]) -> None:
    """Rows of the families join their table; others have a file of their own."""
    from desk_families import RESULTS, add_row

    for r in rows:
        if r["label"] == "families" and r["exits"] is not None:
            add_row(r)
        else:
            RESULTS.mkdir(parents=True, exist_ok=True)
            name = f"desk_{r['label']}_{r['preset']}_{r['size']}_{r['seed']}.json"
            (RESULTS / name).write_text(json.dumps(r, indent=1) + "\n")
