"""One rollout of B rows: the open chunk, the belief, and the noise of every query, in one explicit
object.

Evaluation, serving and the LeRobot plug-in all act through a session, so that the belief's history
is filled in one way only: with the actions *as executed* (``Normaliser.as_executed``), one per
control step.  A session belongs to one rollout; resetting means making a new one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from costep.exits.controller import ExitRule
from costep.policy import Policy
from costep.types import Observation, Trace


class Session:
    """Acts for ``rows`` environments in step.

    as_executed: (B, A) normalised action -> the row that the belief keeps.  seed: fixes all noise
    of the rollout.
    """

    def __init__(
        self,
        policy: Policy,
        as_executed: Callable[[Tensor], Tensor],
        *,
        rows: int = 1,
        seed: int = 0,
        exits: ExitRule | None = None,
        n_action_steps: int | None = None,
    ) -> None:
        self.policy, self.exits, self.rows, self.seed = policy, exits, rows, seed
        self.execute = n_action_steps or policy.config.execute
        if not 1 <= self.execute <= policy.config.chunk:
            raise ValueError(
                f"n_action_steps={self.execute}; expected 1 to {policy.config.chunk}, "
                "the chunk length"
            )
        self._as_executed, self._queue, self._queries = as_executed, [], 0
        self._belief = policy.empty_belief(rows)

    @property
    def hungry(self) -> bool:
        """Whether the next :meth:`act` runs the network."""
        return not self._queue

    def act(self, observation: Observation) -> tuple[Tensor, Trace | None]:
        """The next normalised action (B, A), and the trace when the network ran."""
        if observation.batch != self.rows:
            raise ValueError(
                f"the session acts for {self.rows} rows, the observation has {observation.batch}; "
                "start a new session when the number of environments changes"
            )
        trace = self._query(observation) if self.hungry else None
        return self.pop(), trace

    def pop(self) -> Tensor:
        """Take the next action of the open chunk and remember it as executed."""
        action = self._queue.pop(0)
        if self._belief is not None:
            self._belief = self._belief.push(self._as_executed(action))
        return action

    def _query(self, observation: Observation) -> Trace:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._queries)
        chunk, self._belief, trace = self.policy.act(
            observation, self._belief, exits=self.exits, generator=generator
        )
        self._queries += 1
        self._queue = list(chunk.actions[:, : self.execute].unbind(1))
        return trace
