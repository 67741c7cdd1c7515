"""Molmo at test size: six language layers of width 32, ten vision layers of width 24, 3 x 3 tokens
per crop.
"""

import torch
from miniature import miniature

from costep.backbones.molmo import MolmoBackbone
from costep.config import BackboneSizes

SIZES = BackboneSizes(
    width=32, layers=6, heads=4, kv_heads=2, ffn=48, rope_theta=1e6, vocabulary=640, text_tokens=64,
    pixels=24, patch=4, vision_width=24, vision_layers=10, vision_heads=2,
)  # fmt: skip
TOKENS, CROP = 9, 14  # image tokens of a crop; with the markers, 3 rows of 3 + 1, start and end


def molmo(name="a1_flow", **fields):
    """The preset with a Molmo backbone at test size."""
    small = {"backbone__kind": "molmo", "backbone__film": False, "backbone__sizes": SIZES}
    return miniature(name, **(small | fields))


def build(config, seed=0):
    """The backbone with noise in every parameter that starts at zero."""
    torch.manual_seed(seed)
    backbone = MolmoBackbone(config).eval()
    for parameter in backbone.parameters():
        if parameter.dim() < 2 or not parameter.any():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return backbone
