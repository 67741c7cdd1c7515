"""A1's truncated flow (eq. 10): where the few Euler steps of an exit start.

    none          fresh noise at every exit, t = 1: discrepancies contain sampling variance (the
    paper's "2" rows) reference     the previous exit's chunk, placed at t = 1 without noise (the
    paper's "2*" rows; off-distribution) common_noise  the same noise at every exit, t = 1: a
    deterministic comparison, on-distribution, at no cost renoise       t0 eps + (1 - t0) A_prev at
    t = t0, on-distribution

Time in code: t = 1 is noise.
"""

from __future__ import annotations

from torch import Tensor

from costep.config import Flow
from costep.decoders.base import Noise


def first_point(flow: Flow, previous: Tensor | None, noise: Noise) -> tuple[Tensor, float]:
    """Start of the integration: x (B, T, A) and its time t0."""
    if previous is None or flow.warm_start == "common_noise":
        return noise.first, 1.0
    match flow.warm_start:
        case "none":
            return noise.fresh(), 1.0
        case "reference":
            return previous, 1.0
        case _:
            return flow.t0 * noise.first + (1 - flow.t0) * previous, flow.t0
