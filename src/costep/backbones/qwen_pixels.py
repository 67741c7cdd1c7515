"""Pixels of Qwen's vision towers: a frame cut into patches, and how many image tokens it makes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from costep.config import Backbone

MERGE, FRAMES = 2, 2  # patches per side of an image token; a picture is a film of two frames


@dataclass(frozen=True)
class Colours:
    """Per-channel normalisation of pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def cut(frames: Tensor, patch: int, colours: Colours) -> Tensor:
    """uint8 (I, 3, S, S) -> (I (S / patch)^2, 3 x 2 x patch^2): the patches of an image token lie
    together, and every picture is shown twice, as Qwen's film of two frames.
    """
    mean, std = (torch.tensor(c, device=frames.device)[:, None, None] for c in
                 (colours.mean, colours.std))  # fmt: skip
    x = ((frames / 255 - mean) / std).unflatten(3, (-1, MERGE, patch))
    x = x.unflatten(2, (-1, MERGE, patch))  # images, colour, rows 2 3 4, columns 5 6 7
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # token row, token column, row, column, colour, pixels
    x = x[:, :, :, :, :, :, None].expand(*(-1,) * 6, FRAMES, -1, -1)
    return x.reshape(-1, 3 * FRAMES * patch * patch)


def quarters(depth: int, count: int) -> list[int]:
    """The last layers of the first ``count`` quarters of ``depth``."""
    ends = (depth * k // 4 - 1 for k in range(1, count + 1))
    return sorted({end for end in ends if end >= 0})


def tokens_per_side(backbone: Backbone) -> int:
    """Image tokens along one side of a frame; ValueError where ``image_tokens`` says otherwise."""
    sizes = backbone.sizes
    token = MERGE * sizes.patch
    side, rest = divmod(sizes.pixels, token)
    if rest:
        raise ValueError(
            f"backbone.sizes.pixels={sizes.pixels} is not a multiple of {token} (an image token is "
            f"{MERGE} x {MERGE} patches of {sizes.patch}); use {side * token}"
        )
    if backbone.image_tokens not in (None, side * side):
        wanted = int(backbone.image_tokens**0.5)
        raise ValueError(
            f"backbone.image_tokens={backbone.image_tokens}, but sizes.pixels={sizes.pixels} makes "
            f"{side * side} per camera; use pixels={wanted * token} for {wanted * wanted}, or "
            f"image_tokens={side * side}"
        )
    return side
