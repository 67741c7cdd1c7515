"""The cameras of an observation as one tensor of the size that a vision tower wants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from costep.types import Observation


def gather_frames(observation: Observation, cameras: Sequence[str], side: int) -> Tensor:
    """Frames of ``cameras``, in order, (B, cameras, 3, side, side) uint8; others are left out.

    Raises KeyError for a missing camera, ValueError for anything but uint8 (B, 3, H, W).
    """
    return torch.stack([fit(image, side) for image in raw_frames(observation, cameras)], 1)


def raw_frames(observation: Observation, cameras: Sequence[str]) -> list[Tensor]:
    """The same, each of the size that its camera delivers: uint8 (B, 3, H, W)."""
    return [_frames(observation, name, cameras) for name in cameras]


def fit(frames: Tensor, side: int) -> Tensor:
    """Plain bicubic resize with antialiasing, no letterbox, back to whole levels."""
    if frames.shape[-2:] == (side, side):
        return frames
    resized = F.interpolate(frames.float(), (side, side), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _frames(observation: Observation, name: str, cameras: Sequence[str]) -> Tensor:
    if name not in observation.images:
        raise KeyError(
            f"camera {name!r} is missing: the policy was built for {list(cameras)}, the "
            f"observation has {list(observation.images)}. Rename the cameras, or build the policy "
            f"with cameras={tuple(observation.images)}"
        )
    image = observation.images[name]
    if image.dtype != torch.uint8 or image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(
            f"camera {name!r}: expected uint8 (B, 3, H, W), got {image.dtype} "
            f"{tuple(image.shape)}; hand over frames as they come from the camera"
        )
    return image
