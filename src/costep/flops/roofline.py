"""The least time a device needs: per matrix product, FLOPs / peak or weights / bandwidth, whichever
is longer, summed.

Batch 1, weights read once per product, activations and launches ignored, so no program is faster
and every measured latency has its distance to this.  H200 and the CPU are measured rates, the
others are data sheets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from costep.flops.record import Product


@dataclass(frozen=True)
class Device:
    """tera: FLOP/s and bytes/s in 10^12.  weight_bytes: of one stored number."""

    name: str
    tera_flops: float
    tera_bytes: float
    weight_bytes: int = 2


DEVICES = (
    Device("H200", 790, 4.3),
    Device("A100", 312, 2.04),
    Device("RTX 4090", 165, 1.008),
    Device("Thor", 258, 0.273),
    Device("Orin", 42.5, 0.205),
    Device("2-core CPU", 0.106, 0.030, weight_bytes=4),
)


def limit(products: Iterable[Product], device: Device) -> float:
    """Milliseconds."""
    work = (
        max(p.flops / device.tera_flops, p.weights * device.weight_bytes / device.tera_bytes)
        for p in products
    )
    return sum(work) / 1e9
