"""Embedding of flow time, and of noisy actions together with it.

Time in code: t = 1 is noise, t = 0 is data (the papers' tau is 1 - t).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn


def embed_time(t: Tensor, width: int, form: Literal["periods", "reference"] = "periods") -> Tensor:
    """t (B,) in [0, 1] -> (B, width), sines then cosines, fp32.

    periods: angular frequencies 2 pi / p with p log-spaced over 4e-3..4, so that steps of 1/10 are
    told apart. reference: the frequencies of a language model's positions; at most one radian over
    [0, 1] (a1 section 4).
    """
    half = width // 2
    step = torch.linspace(0, 1, half, device=t.device)
    if form == "periods":
        rate = 2 * math.pi / (4e-3 * (4 / 4e-3) ** step)
    else:
        rate = torch.exp(-math.log(1e4) * step)
    angle = t.float()[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)


class NoisyActionEmbedding(nn.Module):
    """a_k = W2 SiLU(W1 [Linear(x_t[k]) || temb(t)]) (a1 section 4)."""

    def __init__(self, actions: int, width: int, form: Literal["periods", "reference"]) -> None:
        super().__init__()
        self.width, self.form = width, form
        self.action = nn.Linear(actions, width)
        self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, x_BTA: Tensor, t: Tensor) -> Tensor:
        a = self.action(x_BTA)
        time = embed_time(t, self.width, self.form).to(a.dtype)
        return self.mix(torch.cat([a, time[:, None].expand_as(a)], -1))
