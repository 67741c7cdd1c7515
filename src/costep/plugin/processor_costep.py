"""Pre- and post-processing in LeRobot: four stock steps and ``costep_contract``.

``costep_contract`` normalises proprioception and actions exactly as ``costep train`` does, by
``costep.data.normalise``: values are clipped, constant dimensions become 0, the gripper becomes 1 =
open, and a missing statistic is an error.  LeRobot's own quantile step does none of these, so it
stays in the pipeline, where fine-tuning looks for it, as an identity.  Tokenising and resizing
belong to the policy: LeRobot calls the processors at every step, also while a chunk is still open.
"""

from __future__ import annotations

from typing import Any

from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor import (
    PolicyProcessorPipeline,
    ProcessorStep,
    ProcessorStepRegistry,
    make_default_policy_processor_steps,
    make_policy_processor_pipelines,
)

from costep.data.contract import Contract, ContractError
from costep.data.normalise import Normaliser
from costep.plugin.configuration_costep import CostepConfig
from costep.plugin.contracts import of_dataset
from costep.plugin.processor_files import STEP, write_processors

Pipelines = tuple[PolicyProcessorPipeline, PolicyProcessorPipeline]


@ProcessorStepRegistry.register(STEP)
class ContractStep(ProcessorStep):
    """Environment units to the policy's (``inverse`` False), or the policy's action back."""

    def __init__(self, contract: Contract | dict[str, Any], inverse: bool = False) -> None:
        self.contract = Contract.from_dict(contract) if isinstance(contract, dict) else contract
        self.inverse = inverse
        self._normaliser = Normaliser(self.contract)

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        out, action = transition.copy(), transition.get(TransitionKey.ACTION)
        if action is not None:
            convert = self._normaliser.unnormalise if self.inverse else self._normaliser.actions
            out[TransitionKey.ACTION] = convert(action)
        observation = transition.get(TransitionKey.OBSERVATION)
        if observation is not None and not self.inverse:
            state = self._normaliser.state(observation["observation.state"])
            out[TransitionKey.OBSERVATION] = {**observation, "observation.state": state}
        return out

    def get_config(self) -> dict[str, Any]:
        return {"contract": self.contract.to_dict(), "inverse": self.inverse}

    def transform_features(self, features: Any) -> Any:
        return features


def make_costep_pre_post_processors(
    config: CostepConfig,
    dataset_stats: dict[str, dict[str, Any]] | None = None,
    dataset_meta: Any = None,
) -> Pipelines:
    """LeRobot's factory: the pipelines of the policy that was built from ``config``."""
    return pipelines(config, _contract(config, dataset_stats, dataset_meta))


def pipelines(config: CostepConfig, contract: Contract) -> Pipelines:
    stock = make_default_policy_processor_steps(config)
    before = [stock.rename_observations, stock.add_batch_dim, stock.to_device]
    return make_policy_processor_pipelines(
        [*before, ContractStep(contract), stock.normalize],
        [stock.unnormalize, ContractStep(contract, inverse=True), stock.to_cpu],
    )


def _contract(config: CostepConfig, stats: Any, meta: Any) -> Contract:
    """That of the policy, which LeRobot builds first, else that of the dataset."""
    if known := getattr(config, "contract", None):
        return known
    meta = meta or getattr(config, "_runtime_dataset_meta", None)
    if meta is None:
        raise ContractError(
            "no data contract: build the policy first (it leaves its contract on the config), pass "
            "dataset_meta, or load the processors of a checkpoint with pretrained_path"
        )
    return of_dataset(meta, config.to_policy_config(), stats)


__all__ = ["ContractStep", "make_costep_pre_post_processors", "pipelines", "write_processors"]
