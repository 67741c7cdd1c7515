"""FocusVLA's Modality Cascaded Attention: a softmax per modality (eq. 6), so vision keeps a mass of
its own.

    H_A = Attn(A, A),   H_AQ = Attn(A, C^AQ),   H_V = Attn(A, C^V)

``parallel``, the equations: all three read the same latent.  ``sequential``, the word "cascaded"
taken literally: each branch reads the latent as the previous one updated it, the vision gate
included.
"""

from __future__ import annotations

from torch import Tensor

from costep.heads.streams import Context, Streams
from costep.heads.vision import VisionBranch
from costep.nn.attention import mix, scores, softmax


def parallel(
    streams: Streams, branch: VisionBranch, x: Tensor, context: Context
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """x (B, T, D) -> (H_A, H_AQ, H_V), each (B, T, D), and the patches kept."""
    q = streams.query(x)
    action = mix(softmax(scores(q.action, q.own[0])), q.own[1])
    intent = mix(softmax(scores(q.intent, context.intent[0])), context.intent[1])
    vision, kept = branch(q.vision, x, context)
    return action, intent, vision, kept


def sequential(
    streams: Streams, branch: VisionBranch, x: Tensor, context: Context
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """As :func:`parallel`, each branch asking with the latent that the previous branch updated."""
    own = streams.own(x)
    action = mix(softmax(scores(streams.ask(x, "act"), own[0])), own[1])
    x = x + action
    intent = mix(softmax(scores(streams.ask(x, "ite"), context.intent[0])), context.intent[1])
    x = x + intent
    vision, kept = branch(streams.ask(x, "vis"), x, context)
    return action, intent, vision, kept
