"""Gates on the vision branch of a head: FocusVLA's channel gate (eq. 11) and the variants it is
compared with.

scalar_logit multiplies the vision *logits* by tanh(g) (VLA-Adapter); at g = 0 that is mean pooling,
not silence. scalar_out, head and element multiply the vision *output*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("none", "scalar_logit", "scalar_out", "head", "element")


class VisionGate(nn.Module):
    """H'_V = H_V * sigma_g(A_t), with sigma_g read from the query-side input A_t."""

    def __init__(self, kind: str, width: int, heads: int) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"gate {kind!r}; expected one of {KINDS}")
        self.kind = kind
        if kind.startswith("scalar"):
            self.g = nn.Parameter(torch.zeros(1))
        elif kind != "none":
            self.linear = nn.Linear(width, width if kind == "element" else heads)

    def logits(self, s: Tensor) -> Tensor:
        """Vision scores (B, H, T, V) after the logit gate; the identity for every other kind."""
        return s * self.g.tanh() if self.kind == "scalar_logit" else s

    def forward(self, o_BTD: Tensor, query_BTD: Tensor) -> Tensor:
        """Vision output (B, T, D) gated by the latent (B, T, D) that asked for it."""
        match self.kind:
            case "scalar_out":
                return o_BTD * self.g.tanh()
            case "element":
                return o_BTD * self.linear(query_BTD).sigmoid()
            case "head":
                g = self.linear(query_BTD).sigmoid()
                return (o_BTD.unflatten(-1, (g.shape[-1], -1)) * g[..., None]).flatten(-2)
            case _:
                return o_BTD
