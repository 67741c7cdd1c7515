"""LeRobot's feature table against the policy's cameras, proprioception and action.

LeRobot fills the table from the dataset or the environment and overwrites its outputs even for a
loaded checkpoint; what does not fit is refused here, by name and with the flag that mends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costep.plugin.configuration_costep import CostepConfig

IMAGES, STATE, ACTION = "observation.images.", "observation.state", "action"


class FeatureError(ValueError):
    """Dataset or environment and policy disagree; the message says expected, actual and fix."""


def check(config: CostepConfig) -> None:
    """Raise a FeatureError unless the tables have what the policy reads and writes."""
    inputs, outputs = config.input_features or {}, config.output_features or {}
    lines = _cameras(config.cameras, [k for k in inputs if k.startswith(IMAGES)])
    lines += _width("state_dim", config.state_dim, STATE, inputs.get(STATE))
    lines += _width("action_dim", config.action_dim, ACTION, outputs.get(ACTION))
    if lines:
        raise FeatureError(
            f"the dataset or environment does not fit policy {config.preset}/{config.size}:\n"
            + "\n".join(lines)
        )


def _cameras(wanted: tuple[str, ...], given: list[str]) -> list[str]:
    names = [k.removeprefix(IMAGES) for k in given]
    missing = [c for c in wanted if c not in names]
    if not missing:
        return []
    return [
        f"  cameras: expected {list(wanted)}, actual {names}; fix: --policy.cameras="
        f"'[{', '.join(names)}]' for a new policy, --rename_map for a trained one"
    ]


def _width(field: str, wanted: int, key: str, feature: object) -> list[str]:
    shape = tuple(getattr(feature, "shape", ()))
    if shape == (wanted,):
        return []
    actual = f"shape {shape}" if feature else "no such feature"
    width = shape[0] if len(shape) == 1 else "N"
    return [
        f"  {key}: expected ({wanted},), actual {actual}; fix: --policy.{field}={width} for a new "
        "policy, or data of the robot that the checkpoint was trained on"
    ]
