"""The backbone protocol: prepare a query once, then hand out one tap per transformer layer.

A backbone knows nothing of actions; a head knows taps, never a backbone class.  ``layers`` is a
generator, so whoever stops asking stops the computation: early exit is a ``break``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from costep.types import BackboneInfo, Layout, Observation, Tap


@dataclass(frozen=True)
class Inputs:
    """One prepared query.  embeds: (B, N, D).  allowed: (B, 1, N, N) bool.  angle: (B, N, head_dim
    / 2) rotary.
    """

    embeds: Tensor
    allowed: Tensor
    angle: Tensor
    layout: Layout


class Backbone(ABC, nn.Module):
    info: BackboneInfo

    @abstractmethod
    def prepare(self, observation: Observation, extra: Tensor | None = None) -> Inputs:
        """Encode images and words once.  extra: (B, P, D) further tokens, placed before the
        queries.
        """

    @abstractmethod
    def layers(self, inputs: Inputs) -> Iterator[Tap]:
        """One transformer layer per ``next()``."""

    @abstractmethod
    def save_tokenizer(self, folder: Path) -> None:
        """Write what ``load_tokenizer`` needs, so that a checkpoint is complete in itself."""

    @abstractmethod
    def load_tokenizer(self, folder: Path) -> None: ...
