"""FAST's head: causal, on one tap, and the same whether it reads tokens at once or one by one."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from miniature import climb, info, make, make_layout, make_taps, miniature, observe
from test_expert import padded, rms, turn

from costep import heads


def on_taps(**fields):
    config, about = miniature("fast", **fields), info()
    head = heads.build(config, about)
    layout = make_layout(about, queries=0)
    taps = [replace(t, final_norm=lambda x: 2 * x - 1) for t in make_taps(about, layout)]
    layout, taps = padded(layout, taps, 1, 2)
    return head, climb(head, layout, taps, observe(config)), layout, taps


def written_out(head, layout, tap, ids):
    """Causal Qwen2 layers whose keys begin with the tap's."""
    w = head.state_dict()
    lin = lambda n, x: F.linear(x, w[f"{n}.weight"], w.get(f"{n}.bias"))  # noqa: E731
    split = lambda x: x.unflatten(-1, (-1, 8)).transpose(1, 2)  # noqa: E731
    x, n = w["words.weight"][ids], ids.shape[1]
    prefix = layout.key_valid[:, None].expand(-1, n, -1)
    allowed = torch.cat([prefix, torch.ones(n, n).tril().bool().expand(len(ids), -1, -1)], -1)
    place, at = layout.key_valid.cumsum(1) - 1, layout.length[:, None] + torch.arange(n)
    for i in range(3):
        name = f"layers.{i}"
        memory = rms(2 * tap.hidden - 1, w[f"{name}.norm_prefix.weight"])
        pk, pv = (split(lin(f"{name}.kv_proj.{j}", memory)) for j in range(2))
        h = lin(f"{name}.qkv", rms(x, w[f"{name}.norm_attention.weight"]))
        q, k, v = (split(a) for a in h.split([16, 16, 16], -1))
        k, v = torch.cat([turn(pk, place), turn(k, at)], 2), torch.cat([pv, v], 2)
        o = F.scaled_dot_product_attention(turn(q, at), k, v, allowed[:, None])
        x = x + lin(f"{name}.out", o.transpose(1, 2).flatten(2))
        h = rms(x, w[f"{name}.norm_ffn.weight"])
        gate = F.silu(lin(f"{name}.ffn.gate", h))
        x = x + lin(f"{name}.ffn.down", gate * lin(f"{name}.ffn.up", h))
    return lin("out", rms(x, w["norm.weight"]))


@torch.no_grad()
def test_the_head_equals_its_equations():
    head, state, layout, taps = on_taps()
    ids = torch.randint(0, 129, (2, 9))
    logits, _ = head.write(state, ids)
    assert logits.shape == (2, 9, 128)
    assert torch.allclose(logits, written_out(head, layout, taps[-1], ids), atol=1e-5)


@pytest.mark.parametrize("cuts", [[1] * 9, [4, 5], [2, 1, 6]])
@torch.no_grad()
def test_one_by_one_equals_all_at_once(cuts):
    head, state, *_ = on_taps()
    ids = torch.randint(0, 129, (2, 9))
    whole, _ = head.write(state, ids)
    parts = []
    for part in ids.split(cuts, 1):
        logits, state = head.write(state, part)
        parts.append(logits)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-5)


@torch.no_grad()
def test_no_token_sees_a_later_one():
    head, state, *_ = on_taps()
    ids = torch.randint(0, 128, (2, 9))
    before, _ = head.write(state, ids)
    ids[:, 5] = (ids[:, 5] + 1) % 128
    delta = (head.write(state, ids)[0] - before).abs().amax(-1)
    assert (delta[:, :5] == 0).all()
    assert (delta[:, 5:] > 0).all()


def test_proprioception_is_a_token_of_the_backbone():
    config = miniature("fast")
    assert make(config).head.prefix(observe(config)).shape == (2, 1, 32)
    assert make(miniature("fast", head__proprio_token=False)).head.prefix(observe(config)) is None


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"head\.heads=3.*kv_heads=2"):
        miniature("fast", head__heads=3)
    with pytest.raises(ValueError, match=r"scale=0\.0"):
        miniature("fast", decoder__tokens__scale=0.0)
    head, state, *_ = on_taps()
    with pytest.raises(TypeError, match="it writes tokens"):
        head.features(state)
