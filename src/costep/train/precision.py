"""bf16 where it helps: always on CUDA; on a CPU a fifth of a second of measuring decides.

Processors with bf16 dot products run it several times faster than fp32, others several times
slower.  Parameters and optimiser state stay fp32 in any case; only the forward pass is autocast.
"""

from __future__ import annotations

import time

import torch

PROBE_SECONDS = 0.2


def resolve(wanted: str, device: torch.device) -> str:
    """``auto | fp32 | bf16`` -> ``fp32 | bf16`` for this machine."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if speedup() > 1.2 else "fp32"


def speedup(size: int = 256, seconds: float = PROBE_SECONDS) -> float:
    """How many times faster a small CPU matrix product is in bf16 than in fp32, best of several
    rounds each."""
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.ones(size, size, dtype=dtype)
        a @ a  # the first product pays for set-up
        best[dtype], end = float("inf"), time.perf_counter() + seconds / 2
        while time.perf_counter() < end:
            start = time.perf_counter()
            a @ a
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
