"""What a decoder has to learn of the training actions before the first step: FAST's tokens.

The chunks are spread evenly over the windows and depend on nothing else, so every process and
every resumed run finds the same tokens; a fine-tuned policy keeps those of its checkpoint.
"""

from __future__ import annotations

import logging

import numpy as np

from costep.decoders import Decoder
from costep.train.feed import Dataset

log = logging.getLogger(__name__)
CHUNKS = 16_384


def fit(decoder: Decoder, dataset: Dataset, chunks: int = CHUNKS) -> None:
    """Show ``decoder`` at most ``chunks`` of the dataset's action chunks, unless it has nothing
    left to learn."""
    if decoder.fitted:
        return
    count = min(len(dataset), chunks)
    rows = np.linspace(0, len(dataset) - 1, count).round().astype(np.int64)
    seen = dataset.chunks(rows)
    decoder.fit(seen["actions"], seen["action_valid"])
    log.info("fitted %s on %d action chunks", type(decoder).__name__, count)
