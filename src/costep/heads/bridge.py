"""VLA-Adapter's mixed attention: one softmax over the action sequence, intent tokens and vision
together (eq. 1 of FocusVLA).  Because the three share one mass, action queries can crowd vision
out: the shortcut FocusVLA argues with.
"""

from __future__ import annotations

import torch
from torch import Tensor

from costep.heads.streams import Context, Streams
from costep.heads.vision import VisionBranch
from costep.nn.attention import mix, scores, softmax


def bridge(
    streams: Streams, branch: VisionBranch, x: Tensor, context: Context
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """x (B, T, D) -> contributions of (action, intent, vision), each (B, T, D), and the patches
    kept.
    """
    q = streams.query(x)
    blocks = [scores(q.action, q.own[0]), scores(q.intent, context.intent[0])]
    allowed = [torch.ones_like(b, dtype=torch.bool) for b in blocks]
    kept = None
    if context.vision is not None:
        s, seen, kept = branch.scores(q.vision, context)
        blocks.append(s)
        allowed.append(seen.expand_as(s))
    p = softmax(torch.cat(blocks, -1), torch.cat(allowed, -1))
    p_act, p_ite, *p_vis = p.split([b.shape[-1] for b in blocks], -1)
    vision = branch.gate(mix(p_vis[0], context.vision[1]), x) if context.vision else None
    return mix(p_act, q.own[1]), mix(p_ite, context.intent[1]), vision, kept
