"""Starting from somebody else's weights: which statistics the fine-tuned policy will speak.

The streams must mean the same (names, units, gripper, cameras); their statistics may differ.  That
choice is never made silently: ``keep`` goes on with the checkpoint's, so that the old numbers mean
the old motions; ``new`` takes those of the new data, which suits data of another range.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import torch

from costep.data.compare import STATISTICS, compare
from costep.data.contract import Contract
from costep.train.checkpoint import Loaded, load


def starting_point(
    directory: str | os.PathLike[str],
    contract: Contract,
    *,
    statistics: Literal["keep", "new"],
    device: str | torch.device = "cpu",
) -> Loaded:
    """The checkpoint's policy, with the contract to train on: build the training windows with it.

    contract: that of the new data.  Raises ContractError when it differs in more than statistics.
    """
    if statistics not in ("keep", "new"):
        raise ValueError(f"statistics={statistics!r}; choose 'keep' or 'new'")
    loaded = load(directory, device)
    compare(loaded.contract, replace(contract, name=loaded.contract.name), skip=STATISTICS)
    return loaded if statistics == "keep" else replace(loaded, contract=contract)
