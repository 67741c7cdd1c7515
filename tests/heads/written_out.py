"""The step head written out from the papers' equations in plain torch: an independent reference.

It takes a Tower's state dict and raw taps, and shares no code with ``costep.heads``.
Names: w weights, x (B, T, D) the latent, c the head's configuration, p attention weights.
"""

import torch
import torch.nn.functional as F


def lin(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def heads(x, n):
    return x.view(*x.shape[:2], n, -1).transpose(1, 2)


def turned(x):
    """Rotary positions 0..N-1 as complex numbers, base 10000."""
    half = x.shape[-1] // 2
    z = torch.complex(x[..., :half], x[..., half:])
    rate = 1e4 ** (-torch.arange(half) / half)
    z = z * torch.exp(1j * torch.arange(x.shape[2])[:, None] * rate)
    return torch.cat([z.real, z.imag], -1)


def imitated(x):
    """What released Pro weights were trained with: frequencies cat(f, f), pairs (2j, 2j + 1)."""
    half = x.shape[-1] // 2
    f = torch.arange(x.shape[2])[:, None] * 1e4 ** (-torch.arange(half) / half)
    f = torch.cat([f, f], -1)
    y = torch.empty_like(x)
    y[..., 0::2], y[..., 1::2] = -x[..., 1::2], x[..., 0::2]
    return x * f.cos() + y * f.sin()


def positions(rope, own):
    """(query, key) rotations of a branch."""
    same = lambda x: x  # noqa: E731
    table = {"none": same, "all": turned, "upstream": imitated, "self": turned if own else same}
    return table[rope]


def projected(w, kind, branch, x):
    name = f"streams.{kind}.{branch}"
    return lin(w, name if f"{name}.weight" in w else f"streams.{kind}.act", x)


def branch_scores(w, c, x, keys, branch):
    turn = positions(c.rope, own=branch == "act")
    q = turn(heads(projected(w, "q", branch, x), c.heads))
    k = turn(heads(projected(w, "k", branch, keys), c.heads))
    return torch.einsum("bhtd,bhnd->bhtn", q, k) / (x.shape[-1] // c.heads) ** 0.5


def branch_values(w, c, values, branch):
    return heads(projected(w, "v", branch, values), c.heads)


def weighted(p, v):
    return torch.einsum("bhtn,bhnd->bthd", p, v).flatten(2)


def kept_by_sorting(s, k):
    """Exactly k per head and query, lower index first on ties."""
    keep = torch.zeros_like(s, dtype=torch.bool)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in s.shape[:3])).tolist():
        row = s[tuple(index)].tolist()
        best = sorted(range(len(row)), key=lambda n: (-row[n], n))[:k]
        keep[(*index, best)] = True
    return keep


def vision_gate(w, c, x, o):
    match c.focus.gate:
        case "element":
            return o * torch.sigmoid(lin(w, "vision.gate.linear", x))
        case "head":
            g = torch.sigmoid(lin(w, "vision.gate.linear", x))
            return o * g.repeat_interleave(o.shape[-1] // c.heads, -1)
        case "scalar_out":
            return o * torch.tanh(w["vision.gate.g"])
        case _:
            return o


def mixed(w, c, x, intent, keys, values):
    """VLA-Adapter: one softmax over [self, intent, vision] (baselines 2.2)."""
    s_vis = branch_scores(w, c, x, keys, "vis")
    if c.focus.gate == "scalar_logit":
        s_vis = s_vis * torch.tanh(w["vision.gate.g"])
    parts = [branch_scores(w, c, x, x, "act"), branch_scores(w, c, x, intent, "ite"), s_vis]
    p = torch.cat(parts, -1).softmax(-1).split([s.shape[-1] for s in parts], -1)
    vis = vision_gate(w, c, x, weighted(p[2], branch_values(w, c, values, "vis")))
    act = weighted(p[0], branch_values(w, c, x, "act"))
    return act, weighted(p[1], branch_values(w, c, intent, "ite")), vis


def cascaded(w, c, x, intent, keys, values):
    """FocusVLA: three softmaxes, top-K on vision scores, a gate on its output (eq. 6, 9-11)."""
    act = weighted(branch_scores(w, c, x, x, "act").softmax(-1), branch_values(w, c, x, "act"))
    asked = x + act if c.cascade == "sequential" else x
    p = branch_scores(w, c, asked, intent, "ite").softmax(-1)
    ite = weighted(p, branch_values(w, c, intent, "ite"))
    asked = asked + ite if c.cascade == "sequential" else x
    s = branch_scores(w, c, asked, keys, "vis")
    k = c.focus.count(s.shape[-1])
    if k is not None:
        s = s.masked_fill(~kept_by_sorting(s, k), -torch.inf)
    vis = weighted(s.softmax(-1), branch_values(w, c, values, "vis"))
    return act, ite, vision_gate(w, c, asked, vis)


def block(w, c, x, intent, keys, values, belief=None):
    """One layer; belief (B, dim) where the layer is gated."""
    act, ite, vis = (mixed if c.attention == "mixed" else cascaded)(w, c, x, intent, keys, values)
    if c.fusion == "joint":
        fused = act + ite + vis
    else:
        if belief is not None:
            hidden = F.relu(lin(w, "weights.gate.0", belief))
            g = lin(w, "weights.gate.2", hidden).softmax(-1)
        else:
            g = torch.full((len(x), 3), 1 / 3)
        vis, ite, act = (o * g[:, i, None, None] for i, o in enumerate((vis, ite, act)))
        fused = act + ite + vis if c.fusion == "sum" else 3 * torch.cat([act, ite, vis], -1)
    a = lin(w, "fuse", fused)
    ffn = lambda z: F.relu(lin(w, "ffn.1", norm(w, "ffn.0", z)))  # noqa: E731
    return ffn(a) + x if c.ffn_skip == "outer" else ffn(a + x)


def tower(head, config, layout, taps, observation, beliefs=None, start=None):
    """The latent after all of ``taps``, after the fact.  start: in place of the zero stem."""
    w, c = head.state_dict(), config.head
    rows, chunk = len(observation.state), config.chunk
    x = start
    if x is None:
        width = config.action_dim * c.width
        x = F.relu(lin(w, "stem.1", norm(w, "stem.0", torch.zeros(rows, chunk, width))))
    if c.chunk_embed:
        x = x + w["chunk"]
    adapt = lambda name, t: lin(w, f"adapt.{name}", t) if f"adapt.{name}.weight" in w else t  # noqa: E731
    intents = [adapt("intent", t.intent) for t in taps]
    for i, layer in enumerate(config.layer_map):
        if layer >= len(taps):
            break
        mine = {
            k.removeprefix(f"blocks.{i}."): v for k, v in w.items() if k.startswith(f"blocks.{i}.")
        }
        seen = taps[layer if c.vision_layer == "per_layer" else c.vision_layer - 1].vision
        sources = {
            "vlm": adapt("vision", seen),
            "ds": adapt("raw", layout.raw_vision),
            "ds_projected": adapt("projected", layout.projected_vision),
        }
        intent = {
            "per_layer": intents[layer],
            "last": intents[-1],
            "concat_all": torch.cat([intents[m] for m in config.layer_map[: i + 1]], 1),
        }[c.intent]
        if c.proprio_token:
            p = F.gelu(lin(w, "proprio.0", observation.state))
            intent = torch.cat([intent, lin(w, "proprio.2", p)[:, None]], 1)
        gated = beliefs is not None and i + 1 in c.gated
        belief = beliefs[c.gated.index(i + 1)] if gated else None
        x = block(mine, c, x, intent, sources[c.focus.keys], sources[c.focus.values], belief)
    return x
