"""Image augmentation on uint8 batches: random shift, colour jitter, sharpening, erasing.

LeRobot's robotics transforms silently do nothing on the uint8 frames its loader delivers; these
take uint8, return uint8, and a test holds that every one of them changes pixels.  Random numbers
come from one generator on the CPU, so a batch is reproducible on any device; cameras get
independent draws unless ``independent`` is off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

LUMA = (0.299, 0.587, 0.114)
SLICE = 8  # images per floating-point step: what stays in the processor's cache is 5x faster


@dataclass(frozen=True)
class Augment:
    """Strengths; a zero switches that transform off.

    shift: largest shift in pixels, edges repeated.  brightness, contrast, saturation: factor drawn
    from 1 +- value.  tint: the same per channel.  sharpen: mix with a 3x3 blur, from -value to
    +value, applied with ``sharpen_probability``.  erase_probability: a rectangle of one random
    colour, up to ``erase_side`` of each side.
    """

    shift: int = 4
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    tint: float = 0.05
    sharpen: float = 1.0
    sharpen_probability: float = 0.2
    erase_probability: float = 0.1
    erase_side: float = 0.3
    independent: bool = True

    @classmethod
    def off(cls) -> Augment:
        return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def augment(
    images: dict[str, Tensor], config: Augment, generator: torch.Generator
) -> dict[str, Tensor]:
    """camera -> (B, 3, H, W) uint8, a changed copy; ``generator`` lives on the CPU."""
    state = generator.get_state()
    out = {}
    for camera, x in images.items():
        if x.dtype != torch.uint8 or x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(
                f"camera {camera!r}: expected (B, 3, H, W) uint8, got {tuple(x.shape)} {x.dtype}"
            )
        if not config.independent:
            generator.set_state(state)
        out[camera] = _one_camera(x, config, generator)
    return out


def _one_camera(x: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    x = shift(x, config.shift, generator) if config.shift else x.clone()
    if config.sharpen and config.sharpen_probability:
        x = sharpen(x, config.sharpen, config.sharpen_probability, generator)
    if config.brightness or config.contrast or config.saturation or config.tint:
        x = colour(x, config, generator)
    if config.erase_probability and config.erase_side:
        x = erase(x, config.erase_probability, config.erase_side, generator)
    return x


def shift(x: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to ``pixels`` in both directions, edges repeated."""
    height, width = x.shape[-2:]
    padded = pad(x, (pixels,) * 4, mode="replicate")
    moves = torch.randint(0, 2 * pixels + 1, (len(x), 2), generator=generator).tolist()
    return torch.stack(
        [p[:, i : i + height, j : j + width] for p, (i, j) in zip(padded, moves, strict=True)]
    )


def colour_matrices(
    batch: int, config: Augment, generator: torch.Generator, mean: Tensor
) -> tuple[Tensor, Tensor]:
    """Brightness, tint, saturation, contrast as a matrix (B, 3, 3) and an offset (B, 3, 1).

    y = C (b t S x) + (1 - C) luma(b t mean): S mixes a colour with its luma, contrast pulls towards
    the image's mean luma ``mean`` (B,), which brightness moves along.
    """

    def factor(strength: float, columns: int = 1) -> Tensor:
        return 1 + strength * (2 * torch.rand(batch, columns, generator=generator) - 1)

    bright, tint = factor(config.brightness), factor(config.tint, 3)
    saturate, contrast = factor(config.saturation)[..., None], factor(config.contrast)[..., None]
    grey = torch.tensor(LUMA).expand(3, 3)
    mixing = saturate * torch.eye(3) + (1 - saturate) * grey
    matrix = contrast * (bright * tint)[..., None] * mixing
    offset = (1 - contrast) * (bright * mean[:, None])[..., None]
    return matrix, offset.expand(batch, 3, 1)


def colour(x: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    """Photometric jitter; rounds and saturates to uint8."""
    sample = (
        x[:, :, ::4, ::4].float().mean((2, 3))
    )  # a sixteenth of the pixels is enough for the mean
    mean = (sample @ torch.tensor(LUMA, device=x.device)).cpu()
    matrix, offset = (v.to(x.device) for v in colour_matrices(len(x), config, generator, mean))
    out = torch.empty_like(x)
    for part, m, o, y in zip(*(v.split(SLICE) for v in (x, matrix, offset, out)), strict=True):
        y.copy_(torch.baddbmm(o + 0.5, m, part.flatten(2).float()).clamp_(0, 255).view_as(part))
    return out


def sharpen(x: Tensor, strength: float, probability: float, generator: torch.Generator) -> Tensor:
    """x + a (x - blur(x)) for a share of the images, a from [-strength, strength]; interior pixels
    only."""
    chosen = torch.rand(len(x), generator=generator) < probability
    amount = strength * (2 * torch.rand(len(x), generator=generator) - 1)
    out = x.clone()
    for i in chosen.nonzero()[:, 0].tolist():
        y = x[i].float()
        rows = y[:, :-2] + 2 * y[:, 1:-1] + y[:, 2:]
        blur = (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16
        inner = y[:, 1:-1, 1:-1]
        inner += amount[i].item() * (inner - blur)
        out[i] = (y + 0.5).clamp_(0, 255)
    return out


def erase(x: Tensor, probability: float, side: float, generator: torch.Generator) -> Tensor:
    """A rectangle of one random colour over a share of the images, at most ``side`` of height and
    of width."""
    height, width = x.shape[-2:]
    u = torch.rand(len(x), 8, generator=generator)
    out = x.clone()
    for i in (u[:, 0] < probability).nonzero()[:, 0].tolist():
        h = max(1, int(height * side * (0.3 + 0.7 * u[i, 1])))
        w = max(1, int(width * side * (0.3 + 0.7 * u[i, 2])))
        top, left = int(u[i, 3] * (height - h + 1)), int(u[i, 4] * (width - w + 1))
        out[i, :, top : top + h, left : left + w] = (u[i, 5:8, None, None] * 255).to(x)
    return out
