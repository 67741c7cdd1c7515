"""VGGT's aggregator as a second eye for FocusVLA (Wang et al., 2025; focusvla section 3): keys or
values of the vision branch from a network trained on geometry.

UNTESTED WITH REAL WEIGHTS.  The layout and the numbers are those of the published description and
of parameter names; shapes and gradients are tested with random weights only.

Every camera's frame goes through a DINOv2-L; its patches, a camera token and four registers then
pass layers that attend within a frame and over all frames in turn, with rotary positions of row and
column.  Features are both kinds of the last pair side by side, 2 x 1024, special tokens dropped:
one row per patch, in the order of the vision tokens.  The network is frozen; it sees the frames at
the towers' size (224), for which its position embedding (37 x 37) is resampled.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from costep.backbones.prismatic_vision import Tower, normalise
from costep.config import BackboneSizes
from costep.nn.attention import merge_heads
from costep.nn.rope import angles, rotate

REGISTERS, TRAINED_GRID, THETA = 4, 37, 100.0
SPECIAL = 1 + REGISTERS  # the camera token and the registers stand before the patches


class Vggt(nn.Module):
    """frames (B, cameras, 3, P, P) uint8 -> features (B, V, 2 width), V = cameras x patches."""

    patch_embed: Any

    def __init__(self, sizes: BackboneSizes) -> None:
        super().__init__()
        width, heads = sizes.vision_width, sizes.vision_heads
        if (width // heads) % 4:
            raise ValueError(
                f"backbone.sizes.vision_width={width} / vision_heads={heads} must be divisible by "
                "4 for rotary positions of rows and columns (backbone.extra='vggt')"
            )
        self.width = 2 * width
        self.eye = Tower(
            "vit_large_patch14_reg4_dinov2", width, sizes.vision_layers, heads,
            mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        )  # fmt: skip
        self.patch_embed = _dino(self.eye, sizes.patch)
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, width) * 1e-6)
        self.register_token = nn.Parameter(torch.randn(1, 2, REGISTERS, width) * 1e-6)
        layers = range(sizes.vision_layers)
        self.frame_blocks = nn.ModuleList(Block(width, heads) for _ in layers)
        self.global_blocks = nn.ModuleList(Block(width, heads) for _ in layers)

    def forward(self, frames: Tensor) -> Tensor:
        rows, cameras = frames.shape[:2]
        pixels = normalise(frames.flatten(0, 1), self.eye).to(self.camera_token.dtype)
        patches = self.patch_embed.forward_features(pixels)
        patches = patches[:, self.patch_embed.num_prefix_tokens :]
        x = torch.cat([self._special(rows, cameras), patches], 1)  # (B cameras, n, D)
        within = _angles(patches.shape[1], self.eye.width // self.eye.heads, x.device)
        over = within.repeat(cameras, 1, 1)
        alone = x
        for frame, everywhere in zip(self.frame_blocks, self.global_blocks, strict=True):
            alone = frame(x, within)
            together = everywhere(alone.unflatten(0, (rows, cameras)).flatten(1, 2), over)
            x = together.unflatten(1, (cameras, -1)).flatten(0, 1)
        both = torch.cat([alone, x], -1)[:, SPECIAL:]
        return both.unflatten(0, (rows, cameras)).flatten(1, 2)

    def _special(self, rows: int, cameras: int) -> Tensor:
        """The first camera is the frame of reference and has tokens of its own."""
        tokens = torch.cat([self.camera_token, self.register_token], 2)[0]
        which = torch.arange(cameras, device=tokens.device).clamp(max=1)
        return tokens[which].repeat(rows, 1, 1)


class Block(nn.Module):
    """Pre-norm attention with normalised, rotated queries and keys, then an MLP; LayerScale on
    both.  Names are VGGT's."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), angle))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = nn.LayerNorm(width // heads), nn.LayerNorm(width // heads)

    def forward(self, x: Tensor, angle: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = turn(self.q_norm(q), angle), turn(self.k_norm(k), angle)
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def turn(x: Tensor, angle: Tensor) -> Tensor:
    """Rotate the first half of x (B, H, N, d) by the row, the second by the column; angle (N, 2,
    d / 4)."""
    row, column = x.chunk(2, -1)
    return torch.cat([rotate(row, angle[:, 0]), rotate(column, angle[:, 1])], -1)


def _angles(patches: int, head_dim: int, device: torch.device) -> Tensor:
    """Special tokens at (0, 0), patches from (1, 1): (SPECIAL + patches, 2, head_dim / 4)."""
    side = torch.arange(round(patches**0.5), device=device)
    place = torch.cartesian_prod(side, side) + 1
    place = torch.cat([place.new_zeros(SPECIAL, 2), place])
    return angles(place, head_dim // 2, THETA)


def _dino(eye: Tower, patch: int) -> Any:
    return timm.create_model(
        eye.name, pretrained=False, num_classes=0, img_size=TRAINED_GRID * patch,
        patch_size=patch, embed_dim=eye.width, depth=eye.layers, num_heads=eye.heads,
        dynamic_img_size=True,
    )  # fmt: skip
