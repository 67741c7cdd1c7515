"""A policy, a data contract and training windows must speak of the same robot: their cameras,
widths and chunk are compared, never guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costep.config import PolicyConfig
from costep.data.compare import compare
from costep.data.contract import Contract, ContractError

if TYPE_CHECKING:
    from costep.train.feed import Dataset


def check(config: PolicyConfig, contract: Contract) -> None:
    """Raise a ContractError that lists every field on which they differ, and what to change."""
    pairs = {
        "cameras": (config.cameras, contract.cameras),
        "action_dim": (config.action_dim, contract.action.dim),
        "state_dim": (config.state_dim, contract.state.dim),
        "chunk": (config.chunk, contract.chunk),
    }
    lines = [
        f"  {name}: policy {mine!r}, contract {theirs!r}; "
        f"fix: build the policy with {name}={theirs!r}, or use data of its own robot"
        for name, (mine, theirs) in pairs.items()
        if mine != theirs
    ]
    if lines:
        raise ContractError(
            f"policy {config.preset!r} and data contract {contract.name!r} disagree:\n"
            + "\n".join(lines)
        )


def check_windows(config: PolicyConfig, contract: Contract, dataset: Dataset) -> None:
    """The windows must be normalised by this contract and look back as far as the belief does."""
    compare(contract, dataset.contract)
    if dataset.history != config.history:
        raise ContractError(
            f"training windows carry {dataset.history} past actions, the policy's belief reads "
            f"{config.history}; build them with history={config.history}"
        )
