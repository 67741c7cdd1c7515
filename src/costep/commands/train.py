"""``costep train``: from a LeRobotDataset v3.0 (through the frame cache) to a self-contained
checkpoint.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, help="a LeRobotDataset v3.0, or a frame cache made from one"
    )
    parser.add_argument(
        "--preset",
        default="composed",
        help="s2vla focusvla composed a1_mlp a1_flow vla_adapter oft",
    )
    parser.add_argument("--size", default="tiny", choices=("tiny", "small", "full"))
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="FIELD=VALUE",
        help="e.g. head.focus.top_k_frac=0.25",
    )
    parser.add_argument(
        "--init", type=Path, help="fine-tune this checkpoint instead of starting from scratch"
    )
    parser.add_argument(
        "--backbone", type=Path, help="start with this checkpoint's backbone and a new head"
    )
    parser.add_argument(
        "--statistics",
        choices=("keep", "new"),
        default="keep",
        help="with --init: whose normalisation",
    )
    parser.add_argument("--tasks", nargs="*", help="train on these tasks of the dataset only")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--accumulate", type=int, default=1, help="micro-batches per optimiser step"
    )
    parser.add_argument("--minutes", type=float, help="stop (and save) after so much time")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--checkpoint-every", type=int, default=500)
    parser.add_argument(
        "--heldout", type=float, default=0.1, help="share of episodes kept for calibration"
    )
    parser.add_argument("--ema", type=float, help="decay of averaged weights, e.g. 0.998")
    parser.add_argument("--no-augment", action="store_true")
    parser.add_argument("--wandb", metavar="PROJECT", help="also log to Weights & Biases")
    parser.add_argument("--out", type=Path, default=None, help="default outputs/train/PRESET")


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    from costep.commands.progress import bar, say
    from costep.data.augment import Augment
    from costep.data.windows import WindowDataset
    from costep.train.loop import train
    from costep.train.options import TrainOptions

    torch.manual_seed(arguments.seed)
    out = arguments.out or Path("outputs/train") / arguments.preset
    cache = open_cache(arguments.data, _pixels(arguments), arguments.heldout)
    tasks = arguments.tasks or None
    policy, contract = starting_policy(
        arguments, cache.contract_of(tasks) if tasks else cache.contract()
    )
    dataset = WindowDataset(cache, contract, history=policy.config.history, tasks=tasks)
    options = TrainOptions(
        out_dir=out,
        steps=arguments.steps,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        accumulate=arguments.accumulate,
        minutes=arguments.minutes,
        precision=arguments.precision,
        checkpoint_every=arguments.checkpoint_every,
        ema=arguments.ema,
        wandb=arguments.wandb,
        weight_decay=0.01,
        resume=(out / "checkpoints" / "last").exists(),
    )
    with bar(f"training {policy.config.preset} ({policy.config.size})") as line:
        result = train(
            policy,
            dataset,
            options,
            contract,
            augment=None if arguments.no_augment else Augment(shift=0, erase_probability=0.0),
            on_step=lambda r: line.to(
                r.step, r.total, f"loss {r.loss:.4f}  {r.samples_per_second:.0f}/s"
            ),
            extra_writers=processor_writers(),
            notes={"data": str(arguments.data), "samples": len(dataset)},
        )
    say(
        f"{result.step} steps ({result.stopped}), {result.samples_per_second:.0f} samples/s, "
        f"{result.precision}: {result.checkpoint}"
    )
    return {
        "checkpoint": str(result.checkpoint),
        "steps": result.step,
        "stopped": result.stopped,
        "seconds": result.seconds,
        "last_loss": result.losses[-1] if result.losses else None,
        "samples_per_second": result.samples_per_second,
        "precision": result.precision,
    }


def open_cache(data: Path, pixels: int, heldout: float | None):
    """The frame cache at ``data``, or the one beside the dataset, built when it is missing.

    heldout: share of episodes kept for calibration; None takes an existing cache as it is.
    """
    from costep.commands.progress import bar
    from costep.data.cache import FrameCache

    if (data / "cache.json").exists():
        return FrameCache.open(data)
    beside = data.with_name(f"{data.name}.cache{pixels}")
    if heldout is None and beside.exists():
        return FrameCache.open(beside)
    from costep.data.transcode import build_cache

    with bar(f"caching frames at {pixels} px") as line:
        return build_cache(
            data,
            beside,
            pixels=pixels,
            heldout=0.1 if heldout is None else heldout,
            progress=lambda camera, done, total: line.to(done, total, camera),
        )


def starting_policy(arguments: argparse.Namespace, contract):
    """(policy, the contract it speaks): from scratch, or from ``--init``."""
    from costep.policy import Policy
    from costep.train.finetune import adopt_backbone, starting_point

    if arguments.init is None:
        config = overridden(_preset(arguments), arguments.set)
        policy = Policy(config)
        if arguments.backbone is not None:
            adopt_backbone(policy, arguments.backbone)
        return policy, replace(contract, chunk=config.chunk)
    if arguments.backbone is not None:
        raise ValueError("--init starts with a whole policy; leave out --backbone, or --init")
    start = starting_point(arguments.init, contract, statistics=arguments.statistics)
    policy = start.policy
    if arguments.set:
        policy = Policy(overridden(start.config, arguments.set))
        policy.load_state_dict(start.policy.state_dict())
    return policy.train(), start.contract


def overridden(config, settings: list[str]):
    """``config`` with FIELD=VALUE settings applied: JSON where it parses, else words."""
    import json

    from costep.config import PolicyConfig

    data = config.to_dict()
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(
                f"--set {setting!r}: expected FIELD=VALUE, for example head.focus.top_k_frac=0.25"
            )
        *parents, leaf = path.split(".")
        node = data
        for name in parents:
            node = node.get(name) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf not in node:
            raise ValueError(f"--set {path}: no such field; a policy has {', '.join(data)}")
        try:
            node[leaf] = json.loads(text)
        except json.JSONDecodeError:
            node[leaf] = text
    return PolicyConfig.from_dict(data)


def processor_writers() -> tuple:
    """LeRobot's processor files, so that its own commands accept a checkpoint; needs no LeRobot."""
    from costep.plugin.processor_files import write_processors

    return (write_processors,)


def _preset(arguments: argparse.Namespace):
    from costep.presets import preset

    return preset(arguments.preset, arguments.size)


def _pixels(arguments: argparse.Namespace) -> int:
    if arguments.init is None:
        return overridden(_preset(arguments), arguments.set).backbone.sizes.pixels
    from costep.train.checkpoint import read_config, resolve

    return read_config(resolve(arguments.init)).backbone.sizes.pixels
