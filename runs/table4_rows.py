"""The rows of S2-VLA's table 4 as data: the paper's numbers, and the policy that each row is here.

Eight of the ten numbers are quoted: they equal the LIBERO-Long column that starVLA publishes for
one policy over four suites, so they are not the authors' own trainings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from costep.config import PolicyConfig
from costep.config.sizes import QWEN2_5_VL_3B, QWEN3_VL_2B, QWEN3_VL_4B
from costep.presets import preset

OUT = Path("outputs/runs/s2_table4")
EPISODES = 500  # behind each number of the paper
FULL = {"steps": 30_000, "batch": 16, "accumulate": 8}  # starVLA's: about 128 samples per step
BACKBONES = {
    "3B": ("Qwen2.5-VL", "qwen2_5_vl", QWEN2_5_VL_3B),
    "4B": ("Qwen3-VL", "qwen3_vl", QWEN3_VL_4B),
    "2B": ("Qwen3-VL", "qwen3_vl", QWEN3_VL_2B),
}


@dataclass(frozen=True)
class Row:
    """One row: a preset on a backbone.  quoted: the paper took the number from elsewhere."""

    label: str
    preset: str
    backbone: str
    paper: float
    quoted: bool = True

    @property
    def name(self) -> str:
        if self.preset == "s2vla":
            return f"S2-VLA, {self.backbone}"
        return f"{BACKBONES[self.backbone][0]} + {self.label}, {self.backbone}"


ROWS = (
    Row("FAST", "fast", "3B", 90.2),
    Row("OFT", "oft", "3B", 92.0),
    Row("PI", "pi", "3B", 88.4),
    Row("GR00T", "gr00t", "3B", 90.8),
    Row("FAST", "fast", "4B", 90.6),
    Row("OFT", "oft", "4B", 93.8),
    Row("PI", "pi", "4B", 88.4),
    Row("GR00T", "gr00t", "4B", 92.0),
    Row("Adapter-Pro", "vla_adapter", "2B", 94.4, quoted=False),
    Row("S2-VLA", "s2vla", "2B", 96.4, quoted=False),
)


def config(row: Row, size: str) -> PolicyConfig:
    """The row's policy; at full size on its own backbone, fine-tuned whole at starVLA's rates."""
    base = preset(row.preset, size)
    if size != "full" or row.preset == "s2vla":
        return base
    _, kind, sizes = BACKBONES[row.backbone]
    fitted = {"pi": {"depth": sizes.layers}, "vla_adapter": {"width": sizes.width}}
    return replace(
        base,
        backbone=replace(base.backbone, kind=kind, sizes=sizes, image_tokens=64, train="full"),
        head=replace(base.head, **fitted.get(row.preset, {})),
        train=replace(base.train, lr_backbone=2e-5, lr_head=1e-4, warmup=5000),
    )


def switches(row: Row, size: str) -> list[str]:
    """What ``--set`` has to say to get from the preset to the row."""
    base, wanted = (_flat(asdict(c)) for c in (preset(row.preset, size), config(row, size)))
    return [f"{k}={_word(v)}" for k, v in wanted.items() if v != base[k]]


def _flat(tree: dict[str, Any], path: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return leaves


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def distinct(rows: Sequence[Row], size: str) -> list[Row]:
    """One row per policy."""
    return list({place(row, size, 0): row for row in rows}.values())


def place(row: Row, size: str, seed: int) -> Path:
    name = f"{row.preset}-{row.backbone}" if size == "full" else row.preset
    return OUT / f"{size}-{seed}" / name
