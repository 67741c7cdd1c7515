"""VLA-Adapter's released head, written out from its description on tensors under the released
names: an independent reference that shares no code with ``costep.heads``.

The sequence is [start token | V patches | prompt | Q queries].  ``states`` are the backbone's
hidden states as transformers returns them: the embeddings, one entry per layer, the last normed.
"""

import math

import torch
import torch.nn.functional as F


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def norm(w, name, x):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])


def turned(x, dtype=torch.float32):
    """Dimension i turns by position x f[i mod d/2]; partners are 2j and 2j + 1."""
    half = x.shape[-1] // 2
    f = (1 / 10000 ** (torch.arange(half).float() * 2 / x.shape[-1])).to(dtype)
    at = torch.arange(x.shape[2], dtype=dtype)
    y = torch.empty_like(x)
    for i in range(x.shape[-1]):
        angle = at * f[i % half]
        partner = x[..., i + 1] * -1 if i % 2 == 0 else x[..., i - 1]
        y[..., i] = x[..., i] * angle.cos().to(x) + partner * angle.sin().to(x)
    return y


def block(w, name, x, seen, asked, heads, angles=torch.float32):
    """x (B, T, D), seen the vision tap, asked [queries | proprio]: one softmax over all."""
    pro = f"{name}.k_self.weight" in w
    split = lambda n, y: linear(w, f"{name}.{n}", y).unflatten(-1, (heads, -1)).transpose(1, 2)  # noqa: E731
    turn = (lambda y: turned(y, angles)) if pro else (lambda y: y)
    kinds = ("self", "adapter", "task") if pro else ("proj", "proj", "proj")
    q = turn(split("q_proj", x))
    k = [turn(split(f"k_{n}", y)) for n, y in zip(kinds, (x, asked, seen))]
    v = [split(f"v_{n}", y) for n, y in zip(kinds, (x, asked, seen))]
    s = [q @ y.transpose(-1, -2) for y in k]
    s[2] = s[2] * torch.tanh(w[f"{name}.gating_factor"])
    p = (torch.cat(s, -1) / math.sqrt(q.shape[-1])).softmax(-1)
    o = (p @ torch.cat(v, 2)).transpose(1, 2).flatten(2)
    x = linear(w, f"{name}.o_proj", o) + x
    return linear(w, f"{name}.ffn.1", norm(w, f"{name}.ffn.0", x)).relu()


def token(w, state):
    """Proprioception (B, S) -> (B, 1, D)."""
    return linear(w, "fc2", F.gelu(linear(w, "fc1", state)))[:, None]


def chunk(w, projector, states, state, shape, heads, angles=torch.float32):
    """The normalised chunk (B, T, A); shape (T, A, V, Q)."""
    steps, actions, v, q = shape
    d = states[1].shape[-1]
    zeros = states[1].new_zeros(len(state), steps, actions * d)
    x = linear(w, "model.fc1", norm(w, "model.layer_norm1", zeros)).relu()
    proprio = token(projector, state)
    for i, hidden in enumerate(states[1:]):
        n = hidden.shape[1]
        seen, asked = hidden[:, :v], torch.cat([hidden[:, n - q - 1 : n - 1], proprio], 1)
        x = block(w, f"model.mlp_resnet_blocks.{i}", x, seen, asked, heads, angles)
    return linear(w, "model.fc2", norm(w, "model.layer_norm2", x))


# ---- synthetic released files --------------------------------------------------------------------
def file_shapes(pro, width, blocks=24, actions=7, film=True):
    """Names and shapes of an action-head file, as its description lists them."""
    square, row = (width, width), (width,)
    shapes = {
        "model.layer_norm1.weight": (actions * width,),
        "model.layer_norm1.bias": (actions * width,),
    }
    shapes |= {"model.fc1.weight": (width, actions * width), "model.fc1.bias": row}
    kv = (
        ("k_self", "v_self", "k_adapter", "v_adapter", "k_task", "v_task")
        if pro
        else ("k_proj", "v_proj")
    )
    for i in range(blocks):
        b = f"model.mlp_resnet_blocks.{i}"
        for n in ("q_proj", *kv, "o_proj", "ffn.1"):
            shapes |= {f"{b}.{n}.weight": square, f"{b}.{n}.bias": row}
        shapes |= {f"{b}.ffn.0.weight": row, f"{b}.ffn.0.bias": row, f"{b}.gating_factor": (1,)}
        if pro and film:
            shapes |= {
                f"{b}.film_gen.0.weight": (2 * width, width),
                f"{b}.film_gen.0.bias": (2 * width,),
            }
    shapes |= {"model.layer_norm2.weight": row, "model.layer_norm2.bias": row}
    return shapes | {"model.fc2.weight": (actions, width), "model.fc2.bias": (actions,)}


def projector_shapes(width, state=8):
    row = (width,)
    return {
        "fc1.weight": (width, state), "fc1.bias": row,
        "fc2.weight": (width, width), "fc2.bias": row,
    }  # fmt: skip


def drawn(shapes, seed=0):
    """Random tensors of a trained head's scale: maps keep scale, gains lie near 1."""
    g = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        x = torch.randn(shape, generator=g)
        if len(shape) == 2:
            x = x / shape[1] ** 0.5
        elif "norm" in name or "ffn.0" in name:
            x = (1 if name.endswith("weight") else 0) + 0.1 * x
        elif not name.endswith("gating_factor"):
            x = 0.4 * x  # enough to keep 24 layers from magnifying rounding
        tensors[name] = x
    return tensors
