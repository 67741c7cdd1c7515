"""The dimensions of the backbones that the presets are built on."""

from __future__ import annotations

from dataclasses import replace

from costep.config.parts import BackboneSizes

TINY = BackboneSizes(
    width=128,
    layers=6,
    heads=4,
    kv_heads=2,
    ffn=256,
    rope_theta=1e4,
    vocabulary=512,
    text_tokens=20,
    pixels=96,
    patch=32,
    vision_width=128,
    vision_layers=1,
    vision_heads=4,
)
SMALL = BackboneSizes(
    width=384,
    layers=12,
    heads=6,
    kv_heads=2,
    ffn=1024,
    rope_theta=1e4,
    vocabulary=512,
    text_tokens=24,
    pixels=128,
    patch=16,
    vision_width=256,
    vision_layers=6,
    vision_heads=4,
)
QWEN3_VL_2B = BackboneSizes(
    width=2048,
    layers=28,
    heads=16,
    kv_heads=8,
    ffn=6144,
    rope_theta=5e6,
    vocabulary=151_936,
    text_tokens=64,
    pixels=256,
    patch=16,
    vision_width=1024,
    vision_layers=24,
    vision_heads=16,
)
QWEN3_VL_4B = replace(
    QWEN3_VL_2B,
    width=2560,
    layers=36,
    heads=32,  # of 128 each, more than the width holds
    head_dim=128,
    ffn=9728,
)
QWEN2_5_VL_3B = BackboneSizes(
    width=2048,
    layers=36,
    heads=16,
    kv_heads=2,
    ffn=11_008,
    rope_theta=1e6,
    vocabulary=151_936,
    text_tokens=64,
    pixels=224,
    patch=14,
    vision_width=1280,
    vision_layers=32,
    vision_heads=16,
    vision_ffn=3420,
)
PRISMATIC_05B = BackboneSizes()  # Qwen2.5-0.5B with DINOv2-L and SigLIP so400m
MOLMO_7B = BackboneSizes(
    width=3584,
    layers=28,
    heads=28,
    kv_heads=4,
    ffn=18_944,
    rope_theta=1e6,
    vocabulary=152_192,
    text_tokens=64,
    pixels=336,
    patch=14,
    vision_width=1024,
    vision_layers=23,
    vision_heads=16,
)
