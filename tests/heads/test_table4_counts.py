"""Exact parameter counts of fast, pi and gr00t on the Qwen backbones of S2-VLA's table 4."""

import pytest
import torch

from costep import decoders, heads
from costep.presets import preset
from costep.types import BackboneInfo

QWEN3_4B = BackboneInfo(36, 2560, 8, 128, 5e6, 4096, 128, (8, 8))
QWEN2_5_3B = BackboneInfo(36, 2048, 2, 128, 1e6, 5120, 128, (8, 8))


def count(name, info):
    config = preset(name, "full")
    with torch.device("meta"):
        head = heads.build(config, info)
        parts = [head, decoders.build(config, head.features_width)]
    return sum(p.numel() for part in parts for p in part.parameters())


def linear(inputs, outputs):
    return inputs * outputs + outputs


def own_layer(width, ffn, info):
    """Two norms, qkv, out, SwiGLU; the tap's norm and its K and V."""
    kv = info.kv_heads * 128
    attention = linear(width, 8 * 128 + 2 * kv) + 8 * 128 * width
    return 2 * width + attention + 3 * width * ffn + info.width + 2 * linear(info.width, kv)


def noisy(width):
    return linear(7, width) + linear(2 * width, width) + linear(width, width)


def readout(width):
    blocks = 2 * (2 * width + linear(width, width))
    return 2 * width + linear(width, width) + blocks + 2 * width + linear(width, 7)


@pytest.mark.parametrize(
    ("info", "total"), [(QWEN3_4B, 572_911_623), (QWEN2_5_3B, 365_164_551)], ids=["4B", "3B"]
)
def test_pi(info, total):
    suffix = linear(8, 1024) + noisy(1024) + 1024
    assert suffix + 36 * own_layer(1024, 2048, info) + readout(1024) == total
    assert count("pi", info) == total


@pytest.mark.parametrize(
    ("info", "total"), [(QWEN3_4B, 140_857_344), (QWEN2_5_3B, 103_868_416)], ids=["4B", "3B"]
)
def test_fast(info, total):
    words = 1025 * 1024 + 1024 * 1024 + 1024
    proprio = linear(8, info.width) + linear(info.width, info.width)
    assert proprio + words + 6 * own_layer(1024, 4096, info) == total
    assert count("fast", info) == total


@pytest.mark.parametrize(
    ("info", "total"), [(QWEN3_4B, 159_050_503), (QWEN2_5_3B, 152_759_047)], ids=["4B", "3B"]
)
def test_gr00t(info, total):
    w = 768
    modulation = linear(w, 2 * w)
    rest = 2 * linear(w, w) + 2 * w + linear(w, 4 * w) + linear(4 * w, w)
    block = modulation + rest
    blocks = 8 * (block + linear(info.width, 2 * w)) + 8 * (block + linear(w, 2 * w))
    state, time = linear(8, w) + linear(w, w), 2 * linear(w, w)
    whole = state + noisy(w) + 8 * w + time + blocks + modulation + 2 * w + linear(w, 7)
    assert whole == total
    assert count("gr00t", info) == total
