"""LeRobot's batches as the core's windows and observations.

LeRobot delivers frames as float in [0, 1] at the dataset's size; the core reads uint8 at the
backbone's size.  Both go through ``costep.data.images.to_pixels``, as the frame cache and every
rollout of ``costep`` do, on the CPU, because the antialiased resize of bytes exists only there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from costep.config import PolicyConfig
from costep.data.contract import Contract
from costep.data.images import to_pixels
from costep.plugin.features import ACTION, IMAGES, STATE
from costep.types import ImageSpec, Observation


def observe(batch: Mapping[str, Any], contract: Contract, pixels: int) -> Observation:
    """A preprocessed LeRobot batch -> what the policy sees; the state is normalised already."""
    if missing := [c for c in contract.cameras if IMAGES + c not in batch]:
        raise KeyError(
            f"camera(s) {missing} are missing: the contract names {list(contract.cameras)}, the "
            f"batch has {[k for k in batch if k.startswith(IMAGES)]}; use --rename_map"
        )
    state = batch[STATE].float()
    images = {i.name: frames(batch[IMAGES + i.name], i, pixels) for i in contract.images}
    return Observation(
        {name: x.to(state.device) for name, x in images.items()},
        state,
        sentences(batch.get("task"), len(state)),
    )


def windows(
    batch: Mapping[str, Any],
    contract: Contract,
    config: PolicyConfig,
    as_executed: Callable[[Tensor], Tensor],
) -> dict[str, Any]:
    """A training batch (action (B, K + T, A), normalised) -> what ``Policy.loss`` takes.

    The first K rows are the actions before now, as executed; rows beyond an episode's edges, which
    LeRobot repeats, are zeroed and marked invalid.
    """
    seen = observe(batch, contract, config.backbone.sizes.pixels)
    k, rows = config.history, config.history + config.chunk
    actions, pad = batch[ACTION], batch.get("action_is_pad")
    if actions.shape[1:] != (rows, config.action_dim) or pad is None:
        raise ValueError(
            f"action has shape {tuple(actions.shape)}, expected (B, {rows}, {config.action_dim}) "
            f"with action_is_pad: {k} executed actions before now and a chunk of {config.chunk}. "
            "Load the dataset with the policy's action_delta_indices (lerobot-train does)"
        )
    valid = ~pad
    history = as_executed(actions[:, :k]) * valid[:, :k, None]
    return {
        "images": seen.images,
        "state": seen.state,
        "instruction": list(seen.instruction),
        "actions": actions[:, k:] * valid[:, k:, None],
        "action_valid": valid[:, k:],
        "history": history,
        "history_valid": valid[:, :k],
    }


def frames(images: Tensor, spec: ImageSpec, pixels: int) -> Tensor:
    """(B, 3, H, W) float in [0, 1], or uint8 -> (B, 3, pixels, pixels) uint8 on the CPU."""
    x = images.cpu()
    if x.is_floating_point():
        if x.amin() < 0 or x.amax() > 1:
            raise ValueError(
                f"camera {spec.name!r} has values from {x.amin():.2f} to {x.amax():.2f}, expected "
                "[0, 1]; leave VISUAL normalisation at IDENTITY"
            )
        x = (x * 255).round().to(torch.uint8)
    return to_pixels(x.permute(0, 2, 3, 1), pixels, spec)


def sentences(task: Any, rows: int) -> tuple[str, ...]:
    """One instruction per row; LeRobot gives a list, or one string for all."""
    given = (task,) * rows if isinstance(task, str) else tuple(task or ())
    if len(given) != rows or not all(given):
        raise ValueError(
            f"'task' holds {len(given)} instruction(s) {list(given)[:3]} for {rows} row(s); give "
            "one sentence per row (the dataset's task, the environment's task_description, --task)"
        )
    return given


def row(window: Any, index: int) -> Any:
    """Row ``index`` of nested windows, as a batch of one."""
    if isinstance(window, dict):
        return {k: row(v, index) for k, v in window.items()}
    return window[index : index + 1]
