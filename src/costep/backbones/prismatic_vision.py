"""The two vision towers of Prismatic: DINOv2-L with registers and SigLIP so400m, side by side
(Karamcheti et al., 2024; baselines section 1.1).

Each tower normalises the same frames with its own constants and gives the output of its
second-to-last block: prefix tokens dropped, no final norm, channels concatenated (1024 + 1152 =
2176).  The last block of each tower, its norm and SigLIP's attention pooling exist, so that
released weights load by name, but they never run.  With FiLM every block is told the instruction
between attention and MLP, as in OpenVLA-OFT+.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from costep.config import BackboneSizes
from costep.nn.film import Film

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Tower:
    """One ViT by its timm name and its numbers; mean and std are of pixels in [0, 1]."""

    name: str
    width: int
    layers: int
    heads: int
    mean: Triple
    std: Triple


def towers(sizes: BackboneSizes) -> tuple[Tower, Tower]:
    """DINOv2 of the configured size, and a SigLIP in the proportions of so400m to ViT-L: 9/8 as
    wide, three blocks more.  DINO's constants are the bf16 roundings of the released preprocessor.
    """
    width, layers, heads = sizes.vision_width, sizes.vision_layers, sizes.vision_heads
    return (
        Tower(
            "vit_large_patch14_reg4_dinov2", width, layers, heads,
            mean=(0.484375, 0.455078125, 0.40625),
            std=(0.228515625, 0.2236328125, 0.224609375),
        ),
        Tower(
            "vit_so400m_patch14_siglip_224", width * 9 // 8 // heads * heads, layers + 3, heads,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    )  # fmt: skip


class TwoTowers(nn.Module):
    """Frames (N, 3, P, P) uint8 -> patch features (N, patches, width), width = both towers'."""

    def __init__(self, sizes: BackboneSizes, condition: int | None = None) -> None:
        super().__init__()
        self.specs = towers(sizes)
        self.width = sum(t.width for t in self.specs)
        self.dino, self.siglip = (create(t, sizes) for t in self.specs)
        self.films = nn.ModuleList(_films(t, condition) for t in self.specs if condition)

    def forward(self, frames: Tensor, said: Tensor | None = None) -> Tensor:
        """said: (N, D) the instruction for FiLM, None without."""
        films: Any = [None, None] if said is None else self.films
        seen = [
            features(vit, normalise(frames, tower), film, said)
            for vit, tower, film in zip((self.dino, self.siglip), self.specs, films, strict=True)
        ]
        return torch.cat(seen, -1)


def create(tower: Tower, sizes: BackboneSizes) -> Any:
    return timm.create_model(
        tower.name, pretrained=False, num_classes=0, img_size=sizes.pixels,
        patch_size=sizes.patch, embed_dim=tower.width, depth=tower.layers, num_heads=tower.heads,
    )  # fmt: skip


def features(vit: Any, pixels: Tensor, films: Any, said: Tensor | None) -> Tensor:
    """The second-to-last block's patches (N, patches, width); nothing after it is computed."""
    x = vit.patch_embed(pixels.to(vit.patch_embed.proj.weight.dtype))
    x = vit.norm_pre(vit._pos_embed(x))
    for index, block in enumerate(vit.blocks[:-1]):
        if films is None:
            x = block(x)
        else:
            x = x + block.ls1(block.attn(block.norm1(x)))
            x = films[index](x.transpose(1, 2), said).transpose(1, 2)
            x = x + block.ls2(block.mlp(block.norm2(x)))
    return x[:, vit.num_prefix_tokens :]


def normalise(frames: Tensor, tower: Tower) -> Tensor:
    """uint8 (N, 3, P, P) -> (frame / 255 - mean) / std; constants stay off the device."""
    return torch.stack(
        [
            (frames[:, c].float() / 255 - mean) / std
            for c, (mean, std) in enumerate(zip(tower.mean, tower.std, strict=True))
        ],
        1,
    )


def _films(tower: Tower, condition: int) -> nn.ModuleList:
    return nn.ModuleList(Film(condition, tower.width) for _ in range(tower.layers - 1))
