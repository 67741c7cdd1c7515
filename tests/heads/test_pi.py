"""PI: the flow expert's equations with keys and values of its own making, at any depth."""

from dataclasses import replace

import pytest
import torch
from miniature import change, climb, info, make, make_layout, make_taps, miniature, observe
from test_expert import padded, rms, turn

from costep import heads
from costep.heads.expert import FlowExpert

T = torch.tensor([0.3, 0.8])


def on_taps(**fields):
    config = miniature("pi", **fields)
    about = info()
    head = heads.build(config, about)
    layout = make_layout(about, queries=0)
    return config, head, layout, make_taps(about, layout), observe(config)


def projected(head, tap, index):
    """Keys (rotated) and values of layer ``index``, written out."""
    w = head.state_dict()
    hidden = rms(tap.hidden, w[f"layers.{index}.norm_prefix.weight"])
    k, v = (
        hidden @ w[f"layers.{index}.kv_proj.{i}.weight"].T + w[f"layers.{index}.kv_proj.{i}.bias"]
        for i in range(2)
    )
    k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in (k, v))
    return turn(k, tap.layout.key_valid.cumsum(1) - 1), v


@pytest.mark.parametrize("depth", [1, 4, 6])
@torch.no_grad()
def test_it_is_the_expert_on_keys_and_values_of_its_own(depth):
    config, head, layout, taps, seen = on_taps()
    layout, taps = padded(layout, taps, 1, 2)
    expert = FlowExpert(change(config, head__kind="expert"), info())
    expert.load_state_dict(head.state_dict(), strict=False)
    lent = [replace(t, kv=projected(head, t, i)) for i, t in enumerate(taps)]
    x_t = torch.randn(2, 4, 7)
    ours = head.rerun(climb(head, layout, taps[:depth], seen), x_t, T)
    theirs = expert.rerun(climb(expert, layout, lent[:depth], seen), x_t, T)
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.no_grad()
def test_the_backbones_own_keys_are_not_read():
    _, head, layout, taps, seen = on_taps()
    blank = [replace(t, kv=(torch.full_like(t.kv[0], torch.nan),) * 2) for t in taps]
    x_t = torch.randn(2, 4, 7)
    a = head.rerun(climb(head, layout, taps, seen), x_t, T)
    assert torch.equal(a, head.rerun(climb(head, layout, blank, seen), x_t, T))


@torch.no_grad()
def test_every_layer_reads_its_own_tap():
    _, head, layout, taps, seen = on_taps()
    x_t = torch.randn(2, 4, 7)
    before = head.rerun(climb(head, layout, taps, seen), x_t, T)
    for i in range(len(taps)):
        moved = [replace(t, hidden=t.hidden + (t.layer == i) * torch.randn(32)) for t in taps]
        assert not torch.allclose(before, head.rerun(climb(head, layout, moved, seen), x_t, T))


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_reach_the_taps_unless_detached(detach):
    _, head, layout, taps, seen = on_taps(decoder__flow__detach_prefix=detach)
    taps = [replace(t, hidden=t.hidden.requires_grad_()) for t in taps]
    head.rerun(climb(head, layout, taps, seen), torch.randn(2, 4, 7), T).sum().backward()
    assert all((t.hidden.grad is None) is detach for t in taps)
    assert all(layer.norm_prefix.weight.grad is not None for layer in head.layers)


def test_it_leaves_where_the_expert_leaves():
    ours, theirs = miniature("pi"), miniature("a1_flow")
    assert ours.exit_layers == theirs.exit_layers == (1, 2, 4, 5)
    assert ours.probe == theirs.probe == 0
    every = change(ours, train__exit_sampling="all_layers")
    assert make(every).trainable_layers() == tuple(range(6))


def test_one_layer_per_backbone_layer():
    with pytest.raises(ValueError, match=r"head\.depth=5.*sizes\.layers=6"):
        miniature("pi", head__depth=5)
    with pytest.raises(ValueError, match=r"head\.heads=3.*kv_heads=2"):
        miniature("pi", head__heads=3)
