"""FiLM: a condition scales and shifts channels, x (1 + gamma) + beta (Perez et al., 2018;
OpenVLA-OFT+ and RT-1 put the instruction into the vision encoder this way).
"""

from __future__ import annotations

from torch import Tensor, nn


class Film(nn.Module):
    """x (B, C, ...), condition (B, D) -> x's shape; does nothing at first."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.scale_shift.weight)
        nn.init.zeros_(self.scale_shift.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.scale_shift(condition).chunk(2, -1)
        shape = (*scale.shape, *[1] * (x.dim() - 2))
        return x * (1 + scale.view(shape)) + shift.view(shape)
