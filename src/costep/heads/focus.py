"""FocusVLA's patch-level focus: keep the K patches with the highest cross-attention scores (eq. 9).

    W_V = Softmax(TopK(sigma_q(A_t) sigma_k(C_t^V)^T))

``head_query`` ranks per head and action query, the literal equation.  ``shared`` ranks one
aggregate for the whole query (mean softmax probability or mean logit), so that dropped patches can
really be left out (``gather``).  Ranking uses ungated logits; exactly K are kept, in index order on
ties; patches of absent cameras are never candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from costep.config import Focus


def select(focus: Focus, s_BHTV: Tensor, valid_BV: Tensor, camera_V: Tensor) -> Tensor | None:
    """Which patches each (head, query) may attend: bool, broadcastable to (B, H, T, V); None when
    all are kept.
    """
    count = focus.count(s_BHTV.shape[-1])
    if count is None or count >= s_BHTV.shape[-1]:
        return None
    rank = aggregate(focus, s_BHTV, valid_BV)
    rank = rank.masked_fill(~valid_BV[:, None, None], -torch.inf)
    kept = torch.zeros_like(rank, dtype=torch.bool)
    for part, k in _quotas(focus, count, camera_V):
        order = rank[..., part].sort(dim=-1, descending=True, stable=True).indices
        kept.scatter_(-1, part[order[..., :k]], True)
    return kept & valid_BV[:, None, None]


def aggregate(focus: Focus, s: Tensor, valid_BV: Tensor) -> Tensor:
    """The scores that are ranked: (B, H, T, V), (B, H, 1, V) or (B, 1, 1, V)."""
    if focus.scope == "head_query":
        return s
    if focus.score == "prob_mean":
        s = s.masked_fill(~valid_BV[:, None, None], -torch.inf).softmax(-1)
    return s.mean(2, keepdim=True) if focus.scope == "per_head" else s.mean((1, 2), keepdim=True)


def gather(kept_B11V: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Drop the columns that no query keeps: scores (B, H, T, K), values (B, H, K, d) and their
    validity (B, 1, 1, K).
    """
    count = int(kept_B11V.sum(-1).max())
    index = kept_B11V.float().topk(count, -1).indices  # (B, 1, 1, K)
    s = s.gather(-1, index.expand(*s.shape[:-1], -1))
    v = v.gather(2, index.transpose(-1, -2).expand(-1, v.shape[1], -1, v.shape[3]))
    return s, v, kept_B11V.gather(-1, index)


def _quotas(focus: Focus, count: int, camera: Tensor) -> list[tuple[Tensor, int]]:
    """(token indices, how many of them); per camera the remainder goes to the first ones."""
    if focus.quota == "joint":
        return [(torch.arange(len(camera), device=camera.device), count)]
    cameras = camera.unique().tolist()
    share, extra = divmod(count, len(cameras))
    parts = [(camera == c).nonzero().flatten() for c in cameras]
    return [
        (p, min(len(p), share + (i < extra))) for i, p in enumerate(parts) if share + (i < extra)
    ]
