"""Two runs on the same episodes: who solved what the other did not.

Pairing by (task, seed) removes the luck of the draw from a comparison: easy and hard initial states
hit both policies alike, and only the episodes on which they disagree count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costep.evaluate import records as store
from costep.evaluate.protocol import Protocol, check_paired
from costep.evaluate.records import EpisodeRecord, Score
from costep.evaluate.statistics import Interval, PairTable, mcnemar, newcombe_paired, pair_table


@dataclass(frozen=True)
class Comparison:
    """A against B: ``difference`` = success of A - success of B on the common episodes."""

    table: PairTable
    p_value: float
    interval: Interval
    unpaired: int

    @property
    def difference(self) -> float:
        return self.table.difference

    @property
    def a(self) -> Score:
        return Score(self.table.both + self.table.only_a, self.table.total)

    @property
    def b(self) -> Score:
        return Score(self.table.both + self.table.only_b, self.table.total)

    def headline(self, a: str, b: str) -> str:
        """Who was compared, and the difference in percentage points."""
        return f"{a} against {b}: {100 * self.difference:+.1f} points"

    def sentence(self, a: str, b: str) -> str:
        """The evidence as a sentence a newcomer can follow."""
        t, i = self.table, self.interval
        verdict = "more than chance explains" if self.p_value < 0.05 else "chance could explain it"
        p = f"p\u00a0=\u00a0{self.p_value:.2g}" if self.p_value >= 0.001 else "p\u00a0<\u00a00.001"
        return (
            f"Of {t.total} shared initial states, {t.only_a} were solved only by “{a}” and "
            f"{t.only_b} only by “{b}”: {verdict} (exact McNemar {p}). 95% interval of the "
            f"difference: {100 * i.low:+.1f} to {100 * i.high:+.1f} points."
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": self.table.total,
            "only_a": self.table.only_a,
            "only_b": self.table.only_b,
            "difference": self.difference,
            "interval": [self.interval.low, self.interval.high],
            "mcnemar_p": self.p_value,
            "unpaired": self.unpaired,
        }


def compare(a: Iterable[EpisodeRecord], b: Iterable[EpisodeRecord]) -> Comparison:
    """Pair two runs by (task, seed); leaves out errors and episodes that only one run has."""
    left = {r.key: r.success for r in a if r.error is None}
    right = {r.key: r.success for r in b if r.error is None}
    common = [key for key in left if key in right]
    table = pair_table([left[k] for k in common], [right[k] for k in common])
    return Comparison(
        table=table,
        p_value=mcnemar(table),
        interval=newcombe_paired(table),
        unpaired=len(left) + len(right) - 2 * len(common),
    )


def compare_runs(a: Path, b: Path) -> Comparison:
    """``compare`` two result folders, after checking that their protocols allow it."""
    check_paired(Protocol.load(a / "protocol.json"), Protocol.load(b / "protocol.json"))
    return compare(store.read(a / "episodes.jsonl"), store.read(b / "episodes.jsonl"))
