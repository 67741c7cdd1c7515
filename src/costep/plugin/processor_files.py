"""LeRobot's processor files, written without LeRobot.

``policy_preprocessor.json`` and ``policy_postprocessor.json`` describe the pipelines of
``processor_costep`` step by step.  All numbers are in the contract inside the ``costep_contract``
step and the stock normalisers are identities, so there is nothing but JSON to write: ``costep
train`` can add the files to every checkpoint without the seconds that importing LeRobot costs.  A
test compares them with what LeRobot itself saves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from costep.data.contract import Contract
from costep.train.layout import base_fields

PRE, POST = "policy_preprocessor", "policy_postprocessor"
STEP = "costep_contract"
IDENTITY = {"STATE": "IDENTITY", "ACTION": "IDENTITY", "VISUAL": "IDENTITY"}


def write_processors(folder: Path, policy: Any, contract: Contract) -> None:
    """An ``extra_writers`` entry of ``costep.train.checkpoint.save``; ``policy`` is not needed."""
    for name, steps in ((PRE, preprocessor(contract)), (POST, postprocessor(contract))):
        (Path(folder) / f"{name}.json").write_text(
            json.dumps({"name": name, "steps": steps}, indent=2)
        )


def preprocessor(contract: Contract, device: str = "cpu") -> list[dict[str, Any]]:
    """rename, batch, device, ``costep_contract``, normaliser (an identity)."""
    declared = base_fields(contract)
    features = declared["input_features"] | declared["output_features"]
    return [
        _step("rename_observations_processor", rename_map={}),
        _step("to_batch_processor"),
        _step("device_processor", device=device, float_dtype=None),
        _step(STEP, contract=contract.to_dict(), inverse=False),
        _normaliser("normalizer_processor", features),
    ]


def postprocessor(contract: Contract) -> list[dict[str, Any]]:
    """unnormaliser (an identity), ``costep_contract`` backwards, CPU."""
    return [
        _normaliser("unnormalizer_processor", base_fields(contract)["output_features"]),
        _step(STEP, contract=contract.to_dict(), inverse=True),
        _step("device_processor", device="cpu", float_dtype=None),
    ]


def _step(name: str, **config: Any) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _normaliser(name: str, features: dict[str, Any]) -> dict[str, Any]:
    return _step(name, eps=1e-8, features=features, norm_map=IDENTITY)
