"""``costep calibrate``: early-exit thresholds from held-out episodes, saved beside the checkpoint
as exits.json.

Calibration runs the policy as deployment does (same ``act``, same belief history) with every exit
read and none taken, stores all discrepancies, fits on four fifths of the episodes and checks the
realised depth on the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

FAMILIES = ("exponential", "gaussian", "gamma")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--data", type=Path, required=True, help="dataset or frame cache with held-out episodes"
    )
    parser.add_argument("--split", choices=("heldout", "train"), default="heldout")
    parser.add_argument(
        "--family", choices=FAMILIES, help="exit-mass family (default: the policy's)"
    )
    parser.add_argument("-c", type=float, help="its parameter: < 1 exits early, 1 is uniform")
    parser.add_argument(
        "--mean-depth", type=float, metavar="LAYERS", help="solve c for this mean depth instead"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="queries to record at most")
    parser.add_argument("--out", type=Path, help="folder (default: the checkpoint's own)")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from costep.commands.progress import say
    from costep.commands.train import open_cache
    from costep.exits.artifact import Artifact, Discrepancies, save
    from costep.exits.budget import DEPTH, solve_c
    from costep.exits.calibrate import calibrate, comparable
    from costep.train.checkpoint import load

    loaded = load(arguments.checkpoint)
    exits, head = loaded.config.exits, loaded.config.head
    if head.last_only:
        raise ValueError(
            f"head.kind={head.kind!r} reads the last layer alone and has no early exits to "
            "calibrate; run it without exits"
        )
    cache = open_cache(arguments.data, loaded.config.backbone.sizes.pixels, None)
    values, episode, task = record(
        loaded, cache, arguments.split, arguments.samples, arguments.seed
    )
    rows = comparable(loaded.config.exit_layers, loaded.config.probe)
    family, c = arguments.family or exits.family, exits.c if arguments.c is None else arguments.c
    if arguments.mean_depth is not None:
        c = solve_c(arguments.mean_depth, rows, DEPTH.at(rows), family, min_layer=exits.min_layer).c
    calibration = calibrate(
        values, episode, rows, family=family, c=c, custom=exits.mass, min_layer=exits.min_layer,
        rule=exits.quantile, tasks=task, seed=arguments.seed,
    )  # fmt: skip
    say(calibration.verdict())
    artifact = Artifact(
        identity(loaded), calibration.require(), _provenance(loaded, cache, arguments)
    )
    folder = arguments.out or loaded.directory
    save(folder, artifact, Discrepancies.of(values, episode, task))
    say(f"thresholds in {folder / 'exits.json'}")
    return {
        "exits": str(folder / "exits.json"),
        "nominal_depth": calibration.nominal_depth,
        "held_out_depth": calibration.held_out_depth,
        "queries": int(values.shape[1]),
    }


def record(loaded, cache, split: str, samples: int, seed: int):
    """Discrepancies V (|E|, N) of every calibrated exit on held-out queries, their episodes and
    tasks.
    """
    from costep.commands.progress import bar
    from costep.data.windows import WindowDataset
    from costep.exits.calibrate import comparable, readings_to_matrix, subsample
    from costep.exits.controller import ExitRule

    config, name = loaded.config, identity(loaded)
    windows = WindowDataset(cache, loaded.contract, history=config.history, split=split)
    task = np.asarray(cache.task)[windows.anchors]
    chosen = np.sort(np.asarray(subsample(task, samples, seed=seed)))
    everything = ExitRule.full(name.layers, name.probe, name.metric, name.dims, name.horizon)
    readings = []
    with bar("recording discrepancies") as line:
        for at in range(0, len(chosen), 64):
            batch = windows.batch(chosen[at : at + 64])
            readings.append(query(loaded.policy, batch, everything, seed * 1_000_003 + at).exits)
            line.to(at, len(chosen))
    values = readings_to_matrix(readings, name.layers, name.probe)
    assert len(values) == len(comparable(name.layers, name.probe))
    return values, np.asarray(cache.episode)[windows.anchors[chosen]], task[chosen]


def query(policy, batch: dict[str, Any], rule, seed: int):
    """One recorded query, with the belief a rollout would have had."""
    import torch

    from costep.types import Observation

    observation = Observation(batch["images"], batch["state"].float(), tuple(batch["instruction"]))
    generator = torch.Generator().manual_seed(seed)
    return policy.act(observation, policy.recall(batch), exits=rule, generator=generator)[2]


def identity(loaded):
    """What the thresholds of this checkpoint are bound to."""
    from costep.exits.identity import Identity
    from costep.train.checkpoint import fingerprint

    return Identity.of(
        loaded.config,
        checkpoint=fingerprint(loaded.directory),
        normaliser=loaded.contract.sha256(),
        dtype="float32",
        gripper=loaded.contract.action.gripper,
    )


def _provenance(loaded, cache, arguments: argparse.Namespace):
    from costep.exits.artifact import Provenance

    config = loaded.config
    return Provenance(
        dataset=cache.path.name,
        revision=str(cache.manifest["settings"]["source"])[:200]
        if "settings" in cache.manifest
        else "",
        backbone=config.backbone.kind,
        head=config.head.kind,
        decoder=config.decoder.kind,
        device="cpu",
        seed=arguments.seed,
    )
