"""Hindsight waypoints: a training aid for backbones that start from random weights.

The papers start from vision-language models that can already point at things.  A small model
trained from nothing has to learn to localise from action errors alone, which is slow.  So during
training one attention pool per waypoint reads a tap and predicts where the hand will be at the next
gripper events (and at the end of the episode), relative to where it is now. The labels come from
the demonstration itself, by looking ahead; nothing is used that a real robot would not record. The
reader takes no part in acting, and ``train.waypoints=0`` (full size) leaves it out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from costep.nn.attention import mix, scores, softmax, split_heads
from costep.types import Tap

WAYPOINTS = 2  # the next gripper event and the one after it


class WaypointReader(nn.Module):
    """tap (B, N, D), state (B, S) -> offsets (B, WAYPOINTS, 3) in normalised state units."""

    def __init__(self, width: int, state: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Parameter(torch.randn(1, WAYPOINTS, width) * 0.02)
        self.norm = nn.LayerNorm(width)
        self.keys, self.values = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Sequential(nn.Linear(width + state, width), nn.GELU(), nn.Linear(width, 3))

    def forward(self, tap: Tap, state: Tensor) -> Tensor:
        hidden = self.norm(tap.hidden)
        q, k, v = (
            split_heads(x, self.heads) for x in (self.query, self.keys(hidden), self.values(hidden))
        )
        pooled = mix(softmax(scores(q.to(k.dtype), k), tap.layout.key_valid[:, None, None]), v)
        context = state.to(pooled.dtype)[:, None].expand(-1, WAYPOINTS, -1)
        return self.out(torch.cat([pooled, context], -1)).float()


def waypoint_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over valid waypoints: (B, W, 3), (B, W, 3), (B, W) bool."""
    weight = valid[..., None].to(predicted.dtype)
    return ((predicted - target).abs() * weight).sum() / (3 * weight.sum()).clamp(min=1)
