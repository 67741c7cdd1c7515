"""Batches by (seed, step): what a process reads at a step, and the next step read meanwhile.

The samples of an optimiser step are drawn at once and then cut into processes and micro-batches, so
accumulating two halves, or sharing them between two processes, trains on the same samples as one
large batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from costep.data.augment import Augment, augment
from costep.data.contract import Contract
from costep.train.seeds import AUGMENT, MASK, generator

Batch = dict[str, Any]


class Dataset(Protocol):
    """Windows over recorded episodes; see ``costep.data.windows``.  history: rows per window."""

    contract: Contract
    history: int

    def __len__(self) -> int: ...
    def batch(self, indices: np.ndarray) -> Batch: ...
    def chunks(self, indices: np.ndarray) -> Batch: ...
    def sample_indices(self, step: int, batch_size: int, seed: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Share:
    """What one of ``processes`` reads: ``accumulate`` micro-batches of ``batch_size`` per step."""

    batch_size: int
    accumulate: int = 1
    rank: int = 0
    processes: int = 1

    @property
    def total(self) -> int:
        return self.batch_size * self.accumulate * self.processes

    def cut(self, indices: np.ndarray) -> list[np.ndarray]:
        """The step's ``total`` sample indices -> this process's micro-batches."""
        parts = np.split(np.asarray(indices), self.accumulate * self.processes)
        return parts[self.rank * self.accumulate : (self.rank + 1) * self.accumulate]


def read(
    dataset: Dataset,
    share: Share,
    seed: int,
    step: int,
    augmentation: Augment | None = None,
    state_mask: str = "none",
) -> list[Batch]:
    """This process's micro-batches of 0-based ``step``: a pure function of its arguments."""
    batches = []
    for index, rows in enumerate(share.cut(dataset.sample_indices(step, share.total, seed))):
        place = (step, share.rank * share.accumulate + index)
        batch = dataset.batch(rows)
        if augmentation is not None:
            noise = generator("cpu", seed, AUGMENT, *place)
            batch = {**batch, "images": augment(batch["images"], augmentation, noise)}
        if state_mask != "none":
            noise = generator("cpu", seed, MASK, *place)
            batch = {**batch, "state": masked(batch["state"], state_mask, noise)}
        batches.append(batch)
    return batches


def masked(state_BS: Tensor, mode: str, noise: torch.Generator, p: float = 0.5) -> Tensor:
    """Zero normalised proprioception with probability p: each dimension by itself (``dim``, A1's
    paper) or the whole vector of a sample (``sample``, its reference code)."""
    shape = state_BS.shape if mode == "dim" else (len(state_BS), 1)
    return state_BS * (torch.rand(shape, generator=noise) >= p)


def prefetch[T](make: Callable[[int], T], steps: range) -> Generator[tuple[int, T]]:
    """(step, make(step)) in order, one step ahead on a thread; errors surface at their own step."""
    with ThreadPoolExecutor(1, "costep-feed") as pool:
        ahead = [pool.submit(make, step) for step in steps[:1]]
        for step in steps:
            ready = ahead.pop().result()
            ahead = [pool.submit(make, s) for s in (step + steps.step,) if s in steps]
            yield step, ready


def to_device(value: Any, device: torch.device) -> Any:
    """Every tensor of a nested batch on ``device``; sentences stay as they are."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    return value
