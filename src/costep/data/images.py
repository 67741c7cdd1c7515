"""Pixels: the one way from a camera frame to what a policy reads, shared by the frame cache and
every rollout.

Rotation by 180 degrees where the contract says so, then an antialiased bilinear resize on uint8.  A
cache built with it and a robot that renders live therefore see the same image; training on anything
else would break train == deploy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from costep.types import ImageSpec


def to_pixels(
    frames: np.ndarray | Tensor, pixels: int | None, spec: ImageSpec | None = None
) -> Tensor:
    """(B, H, W, 3) uint8 camera frames -> (B, 3, pixels, pixels) uint8; ``pixels`` None keeps the
    size.

    ``spec`` checks the delivered size.  Frames are stored already rotated where
    ``spec.rotated_180`` (the flag describes what has been done); ``rotate_180`` does it for
    environments that render upside down.
    """
    x = torch.as_tensor(frames)
    if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[-1] != 3:
        raise ValueError(f"expected (B, H, W, 3) uint8 frames, got {tuple(x.shape)} {x.dtype}")
    if spec is not None and tuple(x.shape[1:3]) != (spec.height, spec.width):
        raise ValueError(
            f"camera {spec.name!r} delivered {tuple(x.shape[1:3])}, the contract says "
            f"{(spec.height, spec.width)}; render at the contract's size"
        )
    x = x.permute(0, 3, 1, 2)
    if pixels is None or tuple(x.shape[2:]) == (pixels, pixels):
        return x.contiguous()
    return interpolate(
        x, (pixels, pixels), mode="bilinear", antialias=True, align_corners=False
    ).contiguous()


def rotate_180(frames: np.ndarray) -> np.ndarray:
    """(..., H, W, 3) turned upside down, as LIBERO's renderers need: rows and columns flipped."""
    return np.ascontiguousarray(frames[..., ::-1, ::-1, :])
