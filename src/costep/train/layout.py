"""config.json as LeRobot reads it: one flat JSON with the policy's type, LeRobot's base fields and
ours.

LeRobot parses the file strictly, so the base fields are exactly those of its PreTrainedConfig
(0.6.1); a test compares them with the installed version.  Nothing here imports LeRobot.
"""

from __future__ import annotations

from typing import Any

from costep.config import PolicyConfig
from costep.data.contract import Contract
from costep.train.manifest import CheckpointError

FORMAT_VERSION = 1
MODES = {"none": "IDENTITY", "quantile": "QUANTILES", "min_max": "MIN_MAX", "mean_std": "MEAN_STD"}
BASE = (
    *("type", "n_obs_steps", "input_features", "output_features", "normalization_mapping"),
    *("device", "use_amp", "use_peft", "push_to_hub", "repo_id", "private", "tags", "license"),
    *("pretrained_path", "pretrained_revision"),
)


def to_json(config: PolicyConfig, contract: Contract) -> dict[str, Any]:
    """The content of config.json."""
    return {**base_fields(contract), **config.to_dict()}


def base_fields(contract: Contract) -> dict[str, Any]:
    images = {
        f"observation.images.{i.name}": _feature("VISUAL", (3, i.height, i.width))
        for i in contract.images
    }
    return {
        "type": "costep",
        "n_obs_steps": 1,
        "input_features": {**images, "observation.state": _feature("STATE", (contract.state.dim,))},
        "output_features": {"action": _feature("ACTION", (contract.action.dim,))},
        "normalization_mapping": {
            "VISUAL": "IDENTITY",
            "STATE": MODES[contract.state.normalisation],
            "ACTION": MODES[contract.action.normalisation],
        },
        "device": None,  # LeRobot chooses what the machine has
        "use_amp": False,
        "use_peft": False,
        "push_to_hub": False,
        "repo_id": None,
        "private": None,
        "tags": None,
        "license": None,
        "pretrained_path": None,
        "pretrained_revision": None,
    }


def from_json(data: dict[str, Any], source: str) -> PolicyConfig:
    """Inverse of :func:`to_json`; another type or format version is refused by name."""
    if data.get("type") != "costep":
        raise CheckpointError(
            f"{source}: policy type {data.get('type')!r}, expected 'costep'; "
            "load it with the library that wrote it"
        )
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{source}: format_version {version}, this costep reads {FORMAT_VERSION}; "
            "install the costep version that wrote the checkpoint"
        )
    try:
        return PolicyConfig.from_dict({k: v for k, v in data.items() if k not in BASE})
    except (TypeError, ValueError) as problem:
        raise CheckpointError(f"{source}: {problem}") from problem


def _feature(kind: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"type": kind, "shape": list(shape)}
