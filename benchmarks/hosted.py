"""A policy on any device, seen from the host: observations in, actions out, both in host memory.

This is the metric of record: from observation tensor to actions, transfers and waiting included.
``Agent`` accepts it in place of a policy, which adds preprocessing and the contract's conversions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from costep.policy import Policy
from costep.types import ActionChunk, Belief, Observation, Trace

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Hosted:
    """``act`` as in Policy.  dtype bf16 means autocast: weights stay fp32, as in training."""

    def __init__(self, policy: Policy, device: torch.device, dtype: str) -> None:
        self.policy, self.device = policy.to(device).eval(), device
        self.config, self._half = policy.config, DTYPES[dtype] is torch.bfloat16

    def eval(self) -> Hosted:
        return self

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return self.policy.parameters()

    def empty_belief(self, batch: int, instruction: tuple[str, ...] = ()) -> Belief | None:
        return self.policy.empty_belief(batch, instruction)

    def act(
        self, observation: Observation, belief: Belief | None = None, **options: Any
    ) -> tuple[ActionChunk, Belief | None, Trace]:
        with self._autocast():
            chunk, belief, trace = self.policy.act(self.upload(observation), belief, **options)
        kept = {layer: k.cpu() for layer, k in trace.kept.items()}
        return ActionChunk(chunk.actions.cpu()), belief, replace(trace, kept=kept)

    @torch.no_grad()
    def see(self, observation: Observation) -> None:
        """Everything before the first backbone layer: the vision encoder and the embedding."""
        observation = self.upload(observation)
        with self._autocast():
            inputs = self.policy.backbone.prepare(observation, self.policy.head.prefix(observation))
            self.policy.head.start(inputs.layout, observation)
        inputs.embeds[0, 0, 0].cpu()  # wait for it

    def upload(self, observation: Observation) -> Observation:
        images = {c: x.to(self.device) for c, x in observation.images.items()}
        return replace(observation, images=images, state=observation.state.to(self.device))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)
