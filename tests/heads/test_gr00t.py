"""GR00T: the diffusion transformer written out, its alternation, its time, its one tap."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from miniature import change, climb, info, make, make_layout, make_taps, miniature, observe, windows
from test_expert import padded

from costep import heads
from costep.exits.controller import ExitRule
from costep.nn.time import embed_time

T = torch.tensor([0.3, 0.8])


def on_taps(**fields):
    config, about = miniature("gr00t", **fields), info()
    head = heads.build(config, about)
    for p in head.parameters():  # modulations begin at zero, where they could not be told apart
        if (p == 0).all():
            torch.nn.init.normal_(p, std=0.3)
    layout = make_layout(about, queries=0)
    taps = [replace(t, final_norm=lambda x: 2 * x - 1) for t in make_taps(about, layout)]
    return config, head, layout, taps, observe(config)


def written_out(head, layout, tap, seen, x_t, t):
    """x_0 = [state | actions]; even blocks attend to the tap, odd ones to themselves."""
    w = head.state_dict()
    lin = lambda n, x: F.linear(x, w[f"{n}.weight"], w[f"{n}.bias"])  # noqa: E731
    memory = 2 * tap.hidden - 1
    time = lin("time.2", F.silu(lin("time.0", embed_time(t, 32))))
    state = lin("state.2", F.gelu(lin("state.0", seen.state)))
    x = torch.cat([state[:, None], head.noisy(x_t, t) + w["place"]], 1)

    def normed(name, x):
        scale, shift = lin(f"{name}.scale_shift", F.silu(time))[:, None].chunk(2, -1)
        return F.layer_norm(x, (32,)) * (1 + scale) + shift

    for i in range(3):
        name = f"blocks.{i}"
        h = normed(f"{name}.norm_attention", x)
        k, v = lin(f"{name}.key_value", memory if i % 2 == 0 else h).chunk(2, -1)
        q, k, v = (
            a.unflatten(-1, (2, 16)).transpose(1, 2) for a in (lin(f"{name}.query", h), k, v)
        )
        mask = layout.key_valid[:, None, None] if i % 2 == 0 else None
        o = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
        x = x + lin(f"{name}.out", o)
        h = F.layer_norm(x, (32,), w[f"{name}.norm_ffn.weight"], w[f"{name}.norm_ffn.bias"])
        x = x + lin(f"{name}.ffn.2", F.gelu(lin(f"{name}.ffn.0", h)))
    return normed("norm", x)[:, 1:]


@torch.no_grad()
def test_the_head_equals_its_equations():
    _, head, layout, taps, seen = on_taps()
    layout, taps = padded(layout, taps, 1, 2)
    x_t = torch.randn(2, 4, 7)
    ours = head.rerun(climb(head, layout, taps, seen), x_t, T)
    assert ours.shape == (2, 4, 32)
    assert torch.allclose(ours, written_out(head, layout, taps[-1], seen, x_t, T), atol=1e-5)


@torch.no_grad()
def test_only_the_last_tap_counts():
    _, head, layout, taps, seen = on_taps()
    x_t = torch.randn(2, 4, 7)
    before = head.rerun(climb(head, layout, taps, seen), x_t, T)
    early = [replace(t, hidden=t.hidden + (t.layer < 5)) for t in taps]
    late = [replace(t, hidden=t.hidden + (t.layer == 5)) for t in taps]
    assert torch.equal(before, head.rerun(climb(head, layout, early, seen), x_t, T))
    assert not torch.allclose(before, head.rerun(climb(head, layout, late, seen), x_t, T))


@pytest.mark.parametrize(("depth", "others_move"), [(1, False), (2, True)])
@torch.no_grad()
def test_odd_blocks_let_actions_see_each_other(depth, others_move):
    _, head, layout, taps, seen = on_taps(head__depth=depth)
    assert [b.crosses for b in head.blocks] == [True, False][:depth]
    state, x_t = climb(head, layout, taps, seen), torch.randn(2, 4, 7)
    before = head.rerun(state, x_t, T)
    x_t[:, -1] += 1
    delta = (head.rerun(state, x_t, T) - before).abs().amax(-1)
    assert bool((delta[:, :-1] > 1e-6).all()) is others_move
    assert (delta[:, -1] > 0).all()


@torch.no_grad()
def test_time_modulates_every_norm(monkeypatch):
    """Without the time beside the actions, it still enters."""
    _, head, layout, taps, seen = on_taps()
    state, x_t = climb(head, layout, taps, seen), torch.randn(2, 4, 7)
    monkeypatch.setattr(head.noisy, "forward", lambda x, t: head.noisy.action(x))
    assert not torch.allclose(head.rerun(state, x_t, T), head.rerun(state, x_t, T + 0.1))
    for module in head.modules():
        if hasattr(module, "scale_shift"):
            torch.nn.init.zeros_(module.scale_shift.weight)
    assert torch.equal(head.rerun(state, x_t, T), head.rerun(state, x_t, T + 0.1))


@torch.no_grad()
def test_the_state_is_a_token():
    _, head, layout, taps, seen = on_taps()
    x_t, moved = torch.randn(2, 4, 7), replace(seen, state=seen.state + 1)
    a, b = (head.rerun(climb(head, layout, taps, s), x_t, T) for s in (seen, moved))
    assert not torch.allclose(a, b, atol=1e-5)


# ---- no early exits ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["gr00t", "fast"])
def test_exits_are_refused(name):
    config = miniature(name)
    assert (config.exit_layers, config.probe, config.layers_run) == ((5,), None, 6)
    for fields in ({"exits__layers": (2, 5)}, {"exits__probe": 2}, {"exits__force": 5}):
        with pytest.raises(ValueError, match=rf"head\.kind='{name}' has no early exits"):
            change(config, **fields)
    policy = make(config)
    with pytest.raises(ValueError, match=rf"head\.kind='{name}' reads backbone layer 5 alone"):
        policy.act(observe(config), exits=ExitRule.full((2, 5)))
    anywhere = make(change(config, train__exit_sampling="all_layers"))
    assert anywhere.trainable_layers() == (5,)
    with pytest.raises(ValueError, match=r"exit_layer=2 has no action to train"):
        anywhere.loss(windows(config), exit_layer=2)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match=r"head\.width=32 is not divisible by head\.heads=3"):
        miniature("gr00t", head__heads=3)
    with pytest.raises(ValueError, match=r"head\.depth=0"):
        miniature("gr00t", head__depth=0)


def test_no_features_without_noise():
    _, head, layout, taps, seen = on_taps()
    with pytest.raises(TypeError, match=r"decoder\.kind='flow'"):
        head.features(climb(head, layout, taps, seen))
