"""The data contract of a LeRobot dataset: read from its ``meta/contract.json``, never guessed.

A feature table says nothing of units, frames or which gripper value opens, so a dataset without the
file is refused.  Statistics come from the contract, else from the dataset's own frames (LeRobot's
stats.json averages the quantiles of single episodes, which would clip far more than the outer two
per cent), else from stats.json when the frames are not on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from costep.config import PolicyConfig
from costep.data.contract import Contract, ContractError, measure
from costep.data.lerobot_files import DatasetFiles
from costep.types import Stats

STREAMS = {"action": "action", "state": "observation.state"}


def of_dataset(meta: Any, config: PolicyConfig, stats: Mapping[str, Any] | None = None) -> Contract:
    """The contract to train ``config`` with on the dataset of ``meta`` (LeRobotDatasetMetadata)."""
    path = Path(meta.root) / "meta" / "contract.json"
    if not path.exists():
        raise ContractError(
            f"{meta.root} has no meta/contract.json: names, units, gripper polarity and rate "
            "cannot be read off a feature table. Datasets of `costep collect` carry one; for "
            "another, write costep.data.contract.Contract(...) with what the robot's maker states, "
            f"and .save({str(path)!r})"
        )
    contract = fitted(Contract.load(path), config)
    if contract.action_stats and contract.state_stats:
        return contract
    return contract.with_statistics(**_statistics(Path(meta.root), stats or meta.stats))


def fitted(contract: Contract, config: PolicyConfig) -> Contract:
    """The contract with the policy's cameras, in the policy's order, and its chunk length."""
    images = {i.name: i for i in contract.images}
    if missing := [c for c in config.cameras if c not in images]:
        raise ContractError(
            f"contract {contract.name!r} describes cameras {list(images)}, the policy reads "
            f"{list(config.cameras)}; add {missing} to it or set --policy.cameras"
        )
    return replace(contract, images=tuple(images[c] for c in config.cameras), chunk=config.chunk)


def from_lerobot(stats: Mapping[str, Any], stream: str) -> Stats:
    """LeRobot's statistics of one feature; a missing one raises."""
    names = ("q01", "q99", "min", "max", "mean", "std", "count")
    if missing := [n for n in names if n not in stats]:
        raise ContractError(
            f"the dataset's statistics of {stream} lack {missing}; recompute meta/stats.json with "
            "lerobot-edit-dataset, or keep the frames on disk"
        )
    row = {n: tuple(np.asarray(stats[n], np.float64).reshape(-1).tolist()) for n in names[:-1]}
    return Stats(**row, count=int(np.asarray(stats["count"]).reshape(-1)[0]))


def _statistics(root: Path, stats: Mapping[str, Any] | None) -> dict[str, Stats]:
    if any((root / "data").rglob("*.parquet")):
        columns = DatasetFiles(root).columns(list(STREAMS.values()))
        return {name: measure(columns[key]) for name, key in STREAMS.items()}
    if not stats:
        raise ContractError(
            f"no statistics for {root}: neither its contract.json nor meta/stats.json has any and "
            "its frames are not on disk; download the dataset"
        )
    return {name: from_lerobot(stats.get(key, {}), key) for name, key in STREAMS.items()}
