"""Which layers are trained at a step: the last one, a random one, or all exits (A1, exit training).

``last`` and ``all`` are the policy's own business (exit_layer None).  ``random`` draws one of the
policy's trainable layers per optimiser step from (seed, step) alone: every rank and every
micro-batch of the step runs the same layers, without a broadcast; the last layer can be drawn too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costep.train.seeds import LAYER, derive

if TYPE_CHECKING:
    from costep.policy import Policy


def layer_at(policy: Policy, seed: int, step: int) -> int | None:
    """The layer to supervise at 0-based ``step``, None when the policy knows without a draw."""
    if policy.config.train.exit_supervision != "random":
        return None
    layers = policy.trainable_layers()
    return layers[derive(seed, LAYER, step) % len(layers)]
