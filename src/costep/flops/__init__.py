"""Level 1: what a query costs.  Formulas from shapes (:mod:`counts`), what really runs
(:mod:`record`), the least time a device needs for it (:mod:`roofline`), and A1's cost table
(:mod:`a1`).  Nothing here imports torch before it runs something.
"""

from costep.flops.a1 import Row, cost_table
from costep.flops.counts import (
    A1_EXPERT,
    CLIP_L,
    QWEN2_7B,
    Savings,
    TransformerLayer,
    a1_mlp_head,
    a1_tokens,
    exit_costs,
    expert_pass,
    mlp,
    molmo_crop,
    savings,
    step_head_layer,
    vision_tower,
)
from costep.flops.record import Product, counted, record
from costep.flops.roofline import DEVICES, Device, limit

__all__ = [
    "A1_EXPERT",
    "CLIP_L",
    "DEVICES",
    "QWEN2_7B",
    "Device",
    "Product",
    "Row",
    "Savings",
    "TransformerLayer",
    "a1_mlp_head",
    "a1_tokens",
    "cost_table",
    "counted",
    "exit_costs",
    "expert_pass",
    "limit",
    "mlp",
    "molmo_crop",
    "record",
    "savings",
    "step_head_layer",
    "vision_tower",
]
