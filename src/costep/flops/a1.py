"""A1's cost table (table 3 and section 5.2), ours beside the printed numbers.

The paper states a sequence of 352 tokens; its totals are those of 680 tokens and five crops: two
cameras with a global crop and one tile each, and a fifth crop that is padding.  Its flow step is
printed ten times too low, which its own totals show.
"""

from __future__ import annotations

from dataclasses import dataclass

from costep.flops.counts import QWEN2_7B, a1_mlp_head, exit_costs, expert_pass, molmo_crop

TOKENS, CROPS, LAYERS, GIGA = 680, 5, 28, 1e9
SWEEP = range(1, LAYERS, 2)  # the fourteen exits of the reference; its probe is layer 0
TEN_TIMES = (
    "the paper prints a tenth: 28 layers of 9,437,184 weights on 9 tokens are 4.76 GFLOP without "
    "any attention, and its own total with flow exceeds vision and language by 56, not by 5"
)


@dataclass(frozen=True)
class Row:
    """One cell of the table: GFLOPs.  note: why they differ, empty where they agree."""

    name: str
    ours: float
    paper: float
    note: str = ""

    @property
    def relative(self) -> float:
        return self.ours / self.paper - 1


def cost_table() -> tuple[Row, ...]:
    """CLIP, language model, decoders and the four totals, in the paper's order."""
    vision, layer = CROPS * molmo_crop(), QWEN2_7B.flops(TOKENS)
    language, head = LAYERS * layer, a1_mlp_head()
    step = expert_pass(LAYERS, TOKENS)  # seven action dimensions, as the text says
    flow = 10 * expert_pass(LAYERS, TOKENS, action_dim=32)
    rows = (
        ("CLIP, five crops", vision, 2013.36, ""),
        ("language layer", layer, 323.61, ""),
        ("language model, 28 layers", language, 9061.01, ""),
        ("MLP head", head, 1.850, ""),
        ("flow step", step, 0.493, TEN_TIMES),
        ("flow, 10 steps", 10 * step, 4.931, TEN_TIMES),
        ("A1-MLP", vision + language + head, 11_074.39, ""),
        ("A1-FM, 10 steps", vision + language + flow, 11_130.30, ""),
        ("A1-FM, 14 exits, 10 steps", sweep(vision, layer, 10), 11_503.30, ""),
        ("A1-FM, 14 exits, 2 steps", sweep(vision, layer, 2), 11_160.20, ""),
    )
    return tuple(Row(name, ours / GIGA, paper, note) for name, ours, paper, note in rows)


def sweep(vision: float, layer: float, steps: int) -> float:
    """A query that reads an action at every exit and leaves at the last."""

    def test(depth: int) -> float:
        return steps * expert_pass(depth, TOKENS, action_dim=32)

    return exit_costs(vision, layer, test, exits=SWEEP, probe=0)[-1]
