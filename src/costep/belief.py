"""The belief: a recurrent summary of executed actions and proprioception (S2-VLA, eq. 2 and 3).

    o_t = GRU([a_{t-K:t-1} ; valid ; P_t], h_0),   h_0 = W_0 mean(C_vis),   b_t = W_b o_t + beta_b

``window`` runs the GRU over the last K executed actions at every query, from the current frame's
h_0: its memory is the window.  ``carry`` feeds only the rows executed since the last query into the
hidden state of the episode; its first query equals ``window``.  Both use the same weights.  The
state goes in and comes out; nothing is kept in the module. With several gated layers, the last
hidden state of one seeds the GRU of the next; all are computed at once, right after the vision
layer, so the belief never depends on where the query exits.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from costep.types import Belief


class BeliefEncoder(nn.Module):
    """Executed history and proprioception -> one belief vector per gated layer."""

    def __init__(
        self, actions: int, state: int, width: int, dim: int, gates: int, carry: bool
    ) -> None:
        super().__init__()
        self.dim, self.gates, self.carry = dim, max(1, gates), carry
        self.cell = nn.GRUCell(actions + 1 + state, dim)
        self.start = nn.Linear(width, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, belief: Belief, proprio_BS: Tensor, vision_BVD: Tensor
    ) -> tuple[Tensor, Belief]:
        """One query -> beliefs (G, B, dim), one per gated layer, and the state to hand to the next
        query.
        """
        h0 = self.start(vision_BVD.mean(1))
        rows = self._rows(belief, proprio_BS).to(h0.dtype)
        first = ~belief.started if self.carry else torch.ones_like(belief.started)
        h = torch.where(first[:, None], h0, belief.h.to(h0))
        horizon = rows.shape[1]
        fresh = torch.where(first, torch.full_like(belief.fresh, horizon), belief.fresh)
        outputs = []
        for _ in range(self.gates):
            h = self._run(h, rows, fresh)
            outputs.append(self.out(h))
        seen = replace(
            belief,
            h=h.float(),
            started=torch.ones_like(belief.started),
            fresh=torch.zeros_like(belief.fresh),
        )
        return torch.stack(outputs), seen

    def _rows(self, belief: Belief, proprio: Tensor) -> Tensor:
        """(B, K, A + 1 + S): action, validity bit, and the current proprioception on every row."""
        valid = belief.valid.to(proprio.dtype)[..., None]
        actions = belief.actions.to(proprio.dtype) * valid
        return torch.cat([actions, valid, proprio[:, None].expand(-1, actions.shape[1], -1)], -1)

    def _run(self, h: Tensor, rows: Tensor, fresh: Tensor) -> Tensor:
        """The GRU over the last ``fresh`` rows of each sample, oldest first."""
        horizon = rows.shape[1]
        for k in range(horizon):
            feed = fresh >= horizon - k
            h = torch.where(feed[:, None], self.cell(rows[:, k], h).to(h.dtype), h)
        return h
