"""Hindsight waypoints: a training aid for backbones that start from random weights.

The papers start from vision-language models that can already point at things.  A small model
trained from nothing has to learn to localise from action errors alone, which is slow.  So during
training every patch of a tap votes on where the hand will be at the next gripper events (and at the
end of the episode), relative to where it is now, and says how sure it is.  The labels come from the
demonstration itself, by looking ahead; nothing is used that a real robot would not record.  The
reader takes no part in acting, and ``train.waypoints=0`` (full size) leaves it out.

The loss is a mixture's likelihood (Bishop, Mixture Density Networks, 1994), so that a patch which
sees the place learns from it at once, and the others need not, plus the error of the mean vote.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from costep.types import Tap

WAYPOINTS = 2  # the next gripper event and the one after it
SCALE = 0.1  # of a vote's Laplace density, in normalised state units


@dataclass(frozen=True)
class Votes:
    """Of V patches on W waypoints: log_share (B, W, V), offset (B, W, V, 3) in normalised state
    units."""

    log_share: Tensor
    offset: Tensor

    @property
    def mean(self) -> Tensor:
        """(B, W, 3)."""
        return (self.log_share.exp()[..., None] * self.offset).sum(2)


class WaypointReader(nn.Module):
    """tap, state (B, S) -> the votes of the tap's patches."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.norm, self.state = nn.LayerNorm(width), nn.Linear(state, width)
        self.vote = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, WAYPOINTS * 4)
        )

    def forward(self, tap: Tap, state: Tensor) -> Votes:
        hidden = self.norm(tap.vision) + self.state(state)[:, None]
        votes = self.vote(hidden).float().unflatten(-1, (WAYPOINTS, 4)).transpose(1, 2)
        seen = tap.layout.vision_valid[:, None]
        sure = votes[..., 0].masked_fill(~seen, torch.finfo(votes.dtype).min)
        return Votes(sure.log_softmax(-1), votes[..., 1:])


def waypoint_loss(votes: Votes, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid waypoints of SCALE x the mixture's negative log-likelihood, up to a constant,
    and of the mean vote's absolute error: target (B, W, 3), valid (B, W) bool.
    """
    error = (votes.offset - target[:, :, None]).abs().mean(-1)
    surprise = -SCALE * torch.logsumexp(votes.log_share - error / SCALE, -1)
    return _mean(surprise + F.l1_loss(votes.mean, target, reduction="none").mean(-1), valid)


def waypoint_error(votes: Votes, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error of the mean vote over valid waypoints, the figure to look at."""
    return _mean((votes.mean - target).abs().mean(-1), valid)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).sum() / valid.sum().clamp(min=1)
