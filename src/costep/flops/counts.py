"""FLOP counts from shapes alone: two per multiply-add, full unmasked attention, no logits, batch 1.

Generic counts (a transformer layer, a vision tower, a step head's layer, the cost of leaving at
each exit) and, built from them, the parts of A1 (:mod:`costep.flops.a1` has its table).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class TransformerLayer:
    """One attention block and its feed-forward network; ``gated`` counts SwiGLU's third matrix."""

    width: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int | None = None  # None: width / heads
    gated: bool = True

    @property
    def attention_width(self) -> int:
        return self.heads * (self.head_dim or self.width // self.heads)

    @property
    def weights(self) -> int:
        """Matrix weights: query and output, key and value, feed-forward."""
        kv = self.attention_width * self.kv_heads // self.heads
        feed_forward = (3 if self.gated else 2) * self.width * self.ffn
        return 2 * self.width * (self.attention_width + kv) + feed_forward

    def flops(self, tokens: int, context: int = 0) -> int:
        """Of S ``tokens`` that attend to themselves and to C cached keys (``context``): 2 w S + 4 S
        (S + C) d.
        """
        return 2 * self.weights * tokens + 4 * tokens * (tokens + context) * self.attention_width


def mlp(rows: int, *widths: int) -> int:
    """A chain of linear maps ``widths[0] -> widths[1] -> ...`` on ``rows`` rows."""
    return 2 * rows * sum(a * b for a, b in pairwise(widths))


def vision_tower(
    layer: TransformerLayer, layers: int, patches: int, patch_values: int, prefix: int = 0
) -> int:
    """A ViT on one image: embedding of ``patches`` of ``patch_values`` numbers (3 p^2), then
    ``layers`` layers.

    prefix: class and register tokens.
    """
    return mlp(patches, patch_values, layer.width) + layers * layer.flops(patches + prefix)


def step_head_layer(
    width: int, steps: int, conditions: int, *, fused: int = 1, ffn: int = 1, gate: bool = False
) -> int:
    """One layer of a step head: ``steps`` action tokens attend to themselves and to ``conditions``
    tokens.

    Keys and values of every condition token are projected (that is nearly all of it).  fused:
    branches that enter the output projection (3 for concat, 1 for joint and sum).  ffn: width x
    width matrices of the feed-forward network. gate: FocusVLA's channel gate.
    """
    per_step = (
        2 * width * width * (3 + fused + ffn + gate)
    )  # query, own key and value, output, ffn, gate
    per_condition = 4 * width * width
    return steps * per_step + conditions * per_condition + 4 * steps * (steps + conditions) * width


def exit_costs(
    fixed: float,
    layer: float | Sequence[float],
    test: Callable[[int], float],
    exits: Sequence[int],
    probe: int | None = None,
) -> tuple[float, ...]:
    """Cost of a query that leaves at each of ``exits`` (0-based), in whatever unit the arguments
    have.

    T(e) = fixed + (e + 1) layer + test(probe + 1) + sum_{tested e' <= e} test(e' + 1).  fixed:
    vision.  layer: one backbone layer and its head step, or one number per layer.  test(k): reading
    an action after k layers.
    """
    tests = test(probe + 1) if probe is not None else 0
    costs = []
    for e in exits:
        tests += test(e + 1)
        layers = (e + 1) * layer if isinstance(layer, int | float) else sum(layer[: e + 1])
        costs.append(fixed + layers + tests)
    return tuple(costs)


@dataclass(frozen=True)
class Savings:
    """One run, two accountings, each a fraction saved.

    layers: 1 - executed layers / all layers, which the paper also applies to the fixed cost.
    total: of all FLOPs, the fixed cost (vision) being paid whatever the exit.
    """

    layers: float
    total: float


def savings(executed: float, fixed: float, layers: float) -> Savings:
    """Of running a share ``executed`` of the layers, with ``fixed`` and ``layers`` the cost at full
    depth.
    """
    saved = 1 - executed
    return Savings(layers=saved, total=saved * layers / (fixed + layers))


# ---- A1: Molmo-7B-D, an MLP or flow-expert decoder --------------------

QWEN2_7B = TransformerLayer(width=3584, ffn=18_944, heads=28, kv_heads=4)
CLIP_L = TransformerLayer(width=1024, ffn=4096, heads=16, kv_heads=16, gated=False)
A1_EXPERT = TransformerLayer(width=1024, ffn=2048, heads=8, kv_heads=4)


def molmo_crop(layers: int = 23) -> int:
    """One 336-pixel crop: CLIP layers, attention pooling of 2x2 windows (576 -> 144), SwiGLU
    projector.  The paper counts all 23 layers; nothing reads the last one, and ours does not run.
    """
    pooled = mlp(2 * 576, 2048, 1024) + mlp(144, 2048, 1024, 1024) + 4 * 144 * 4 * 1024
    projector = mlp(2 * 144, 1024, 18_944) + mlp(144, 18_944, 3584)
    return (
        vision_tower(CLIP_L, layers, patches=576, patch_values=3 * 14**2, prefix=1)
        + pooled
        + projector
    )


def a1_mlp_head(chunk: int = 8, action_dim: int = 7, width: int = 3584) -> int:
    """A1-MLP's read-out: the query states of one step, concatenated, through two blocks."""
    return mlp(chunk, action_dim * width, width, width, width, action_dim)


def expert_pass(
    depth: int,
    prefix: int,
    chunk: int = 8,
    action_dim: int = 7,
    expert: TransformerLayer = A1_EXPERT,
) -> int:
    """X(k): one flow step of ``depth`` k expert layers on a cached prefix, with in and out maps."""
    d = expert.width
    in_out = (
        mlp(chunk, action_dim, d) + mlp(chunk, 2 * d, d, d) + mlp(chunk, d, d, d, d, action_dim)
    )
    return depth * expert.flops(chunk + 1, context=prefix) + in_out


def a1_tokens(crops: int, text: int = 36) -> int:
    """Length of A1's sequence: 158 tokens per crop, then the prompt."""
    return 158 * crops + text
