"""Patch-level focus: which patches are kept, what dropping means, and where values come from."""

from dataclasses import replace

import pytest
import torch
from miniature import change, climb, info, make_layout, make_taps, miniature, observe

from costep import heads
from costep.config import Focus, Head
from costep.heads.focus import aggregate, select
from costep.heads.streams import Context
from costep.heads.vision import VisionBranch
from costep.nn.attention import softmax

CAMERA = torch.arange(2).repeat_interleave(8)
VALID = torch.ones(2, 16, dtype=torch.bool)
SCOPES = ("head_query", "per_head", "shared")


def scored():
    return torch.randn(2, 3, 4, 16)


def make_context(rows=2, tokens=16, valid=None):
    """Projected conditions with random keys and values, three heads of width 4."""
    pair = lambda n: (torch.randn(rows, 3, n, 4), torch.randn(rows, 3, n, 4))  # noqa: E731
    valid = torch.ones(rows, tokens, dtype=torch.bool) if valid is None else valid
    return Context(pair(5), pair(tokens), valid, torch.arange(2).repeat_interleave(tokens // 2))


def branch(**focus):
    return VisionBranch(Head(width=12, heads=3, focus=Focus(**focus)))


# ---- how many and which --------------------------------------------------------------------------
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("k", [1, 5, 15])
def test_exactly_k_weights_are_not_zero(scope, k):
    vision, context = branch(top_k=k, scope=scope), make_context()
    s, allowed, kept = vision.scores(torch.randn(2, 3, 4, 4), context)
    p = softmax(s, allowed)
    assert ((p > 0).sum(-1) == k).all()
    assert (kept.expand_as(p) == (p > 0)).all()
    assert torch.allclose(p.sum(-1), torch.ones(2, 3, 4))


def test_the_best_are_kept():
    s = scored()
    kept = select(Focus(top_k=5), s, VALID, CAMERA)
    worst_kept = s.masked_fill(~kept, torch.inf).amin(-1)
    best_dropped = s.masked_fill(kept, -torch.inf).amax(-1)
    assert (worst_kept > best_dropped).all()


def test_ties_keep_the_first():
    """bf16 scores tie often; a threshold would keep too many."""
    kept = select(Focus(top_k=5), torch.zeros(2, 3, 4, 16), VALID, CAMERA)
    assert (kept == (torch.arange(16) < 5)).all()
    s = torch.zeros(1, 1, 1, 64)
    s[..., 50] = 1
    many = torch.ones(1, 64, dtype=torch.bool)
    kept = select(Focus(top_k=20), s, many, torch.zeros(64, dtype=torch.long))
    assert kept[0, 0, 0].nonzero().flatten().tolist() == [*range(19), 50]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_shares_its_set(scope):
    kept = select(Focus(top_k=5, scope=scope), scored(), VALID, CAMERA)
    shape = {"head_query": (2, 3, 4, 16), "per_head": (2, 3, 1, 16), "shared": (2, 1, 1, 16)}
    assert kept.shape == shape[scope]


def test_shared_scores_by_hand():
    s = scored()
    p = s.softmax(-1).mean((1, 2))
    assert torch.allclose(aggregate(Focus(scope="shared"), s, VALID)[:, 0, 0], p)
    logits = aggregate(Focus(scope="shared", score="logit_mean"), s, VALID)
    assert torch.allclose(logits[:, 0, 0], s.mean((1, 2)))
    per_head = aggregate(Focus(scope="per_head"), s, VALID)
    assert torch.allclose(per_head[:, :, 0], s.softmax(-1).mean(2))


def test_k_of_all_is_dense_bit_for_bit():
    context, q, x = make_context(), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12)
    dense, _ = branch()(q, x, context)
    for focus in ({"top_k": 16}, {"top_k": 99}, {"top_k_frac": 1.0}):
        assert torch.equal(branch(**focus)(q, x, context)[0], dense)
    shared = branch(top_k=16, scope="shared", impl="gather")(q, x, context)[0]
    assert torch.equal(shared, dense)


def test_k_of_one_returns_the_value_of_the_best_patch():
    context, q = make_context(), torch.randn(2, 3, 4, 4)
    o, _ = branch(top_k=1)(q, torch.zeros(2, 4, 12), context)
    k, v = context.vision
    best = (q @ k.transpose(-1, -2)).argmax(-1)  # (B, H, T)
    rows = v.gather(2, best[..., None].expand(-1, -1, -1, 4))
    assert torch.allclose(o, rows.transpose(1, 2).flatten(2))


def test_the_gate_does_not_change_the_ranking():
    """Top-k ranks ungated logits (rulings 20): a negative logit gate would keep the worst."""
    context, q = make_context(), torch.randn(2, 3, 4, 4)
    vision = branch(top_k=5, gate="scalar_logit")
    vision.gate.g.data.fill_(-2.0)
    assert torch.equal(vision.scores(q, context)[2], branch(top_k=5).scores(q, context)[2])


# ---- cameras -------------------------------------------------------------------------------------
def test_joint_quota_may_prefer_a_camera():
    s = scored()
    s[..., :8] += 100
    kept = select(Focus(top_k=6), s, VALID, CAMERA)
    assert (kept[..., :8].sum(-1) == 6).all()


@pytest.mark.parametrize(("k", "shares"), [(6, [3, 3]), (5, [3, 2]), (1, [1, 0])])
def test_a_quota_per_camera(k, shares):
    s = scored()
    s[..., :8] += 100
    kept = select(Focus(top_k=k, quota="per_camera"), s, VALID, CAMERA)
    for camera, share in enumerate(shares):
        assert (kept[..., camera == CAMERA].sum(-1) == share).all()


@pytest.mark.parametrize("quota", ["joint", "per_camera"])
@pytest.mark.parametrize("scope", SCOPES)
def test_an_absent_camera_is_never_selected(scope, quota):
    s = scored()
    s[..., 8:] += 100  # the absent camera looks most tempting
    valid = VALID.clone()
    valid[1, 8:] = False
    kept = select(Focus(top_k=6, scope=scope, quota=quota), s, valid, CAMERA)
    assert not kept[1, ..., 8:].any()
    assert (kept[1].sum(-1) == (6 if quota == "joint" else 3)).all()  # its share stays unused
    assert (kept[0].sum(-1) == 6).all()


@pytest.mark.parametrize("scope", SCOPES)
def test_more_asked_than_present(scope):
    valid = VALID.clone()
    valid[1, 4:] = False
    kept = select(Focus(top_k=6, scope=scope), scored(), valid, CAMERA)
    assert (kept[1].sum(-1) == 4).all()
    valid[1] = False
    context = make_context(valid=valid)
    o, _ = branch(top_k=6, scope=scope)(torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12), context)
    assert torch.equal(o[1], torch.zeros_like(o[1]))  # nothing to see, nothing said
    assert o[0].abs().max() > 0


def test_an_absent_camera_is_not_seen_without_top_k():
    valid = VALID.clone()
    valid[:, 8:] = False
    context, q, x = make_context(valid=valid), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12)
    k, v = context.vision
    short = replace(context, vision=(k[:, :, :8], v[:, :, :8]), valid=valid[:, :8])
    assert torch.allclose(branch()(q, x, context)[0], branch()(q, x, short)[0], atol=1e-6)


# ---- mask and gather -----------------------------------------------------------------------------
@pytest.mark.parametrize("quota", ["joint", "per_camera"])
@pytest.mark.parametrize("score", ["prob_mean", "logit_mean"])
@pytest.mark.parametrize("gate", ["none", "scalar_logit", "element"])
def test_gather_equals_mask(quota, score, gate):
    valid = VALID.clone()
    valid[1, 8:] = False
    context, q, x = make_context(valid=valid), torch.randn(2, 3, 4, 4), torch.randn(2, 4, 12)
    focus = {"top_k": 6, "scope": "shared", "quota": quota, "score": score, "gate": gate}
    mask, gather = branch(**focus), branch(**focus, impl="gather")
    for p in mask.parameters():
        p.data += 0.7
    gather.load_state_dict(mask.state_dict())
    assert torch.allclose(mask(q, x, context)[0], gather(q, x, context)[0], atol=1e-5)


# ---- a whole head --------------------------------------------------------------------------------
def focused(**fields):
    config = miniature("focusvla", **fields)
    about = info()
    head = heads.build(config, about)
    for p in head.parameters():
        p.data += torch.randn_like(p) * 0.1
    layout = make_layout(about)
    return config, head, layout, make_taps(about, layout), observe(config)


@pytest.mark.parametrize("impl", ["mask", "gather"])
def test_a_dropped_patch_gets_no_gradient(impl):
    """scope=shared: exactly zero into its key tap and its raw value."""
    _, head, layout, taps, seen = focused(
        head__focus__scope="shared", head__focus__impl=impl, head__depth=1, head__layer_map="last",
        trace_layers=(1,),
    )  # fmt: skip
    raw = layout.raw_vision.clone().requires_grad_()
    hidden = taps[5].hidden.clone().requires_grad_()
    layout = replace(layout, raw_vision=raw)
    state = climb(head, layout, [replace(taps[5], hidden=hidden, layout=layout)], seen)
    state.x.square().sum().backward()
    kept = state.kept[1] > 0
    keys = hidden.grad[:, layout.vision]
    assert kept.sum(1).tolist() == [16, 16]
    for grad in (keys, raw.grad):
        assert (grad[~kept] == 0).all()
        assert (grad[kept].abs().amax(-1) > 0).all()


def test_values_and_keys_come_from_different_places():
    """Perturbing a raw value changes H_V, not W_V; perturbing a key tap changes W_V."""
    _, head, layout, taps, seen = focused(head__depth=1, head__layer_map="last", trace_layers=(1,))
    streams, vision = head.blocks[0].streams, head.blocks[0].vision

    def looked(layout, tap):
        state = head.start(layout, seen)
        context, _ = head._context(head.blocks[0], state, tap, None)
        q = streams.query(state.x)
        s, allowed, kept = vision.scores(q.vision, context)
        return softmax(s, allowed), vision(q.vision, state.x, context)[0], kept

    p, o, kept = looked(layout, taps[5])
    patch = int(kept[0].any((0, 1)).nonzero()[0])
    raw = layout.raw_vision.clone()
    raw[0, patch] += 1
    p2, o2, _ = looked(replace(layout, raw_vision=raw), taps[5])
    assert torch.equal(p, p2)
    assert not torch.allclose(o[0], o2[0], atol=1e-4)
    assert torch.equal(o[1], o2[1])
    hidden = taps[5].hidden.clone()
    hidden[0, layout.vision.start + patch] += 1
    p3, _, _ = looked(layout, replace(taps[5], hidden=hidden))
    assert not torch.allclose(p[0], p3[0], atol=1e-4)


def test_the_trace_counts_the_kept_patches():
    _, head, layout, taps, seen = focused(trace_layers=(2, 4))
    state = climb(head, layout, taps, seen)
    assert set(state.kept) == {2, 4}
    for frequency in state.kept.values():
        assert frequency.shape == (2, 32)
        assert torch.allclose(frequency.sum(1), torch.full((2,), 16.0))


@pytest.mark.parametrize(
    "fields",
    [
        {"head__attention": "mixed", "head__fusion": "joint"},
        {"head__focus__top_k_frac": None},
        {"head__focus__gate": "none"},
        {"head__focus__values": "vlm"},
        {"head__focus__values": "none"},
        {"head__focus__keys": "ds"},
        {"head__focus__scope": "shared"},
        {"head__focus__quota": "per_camera"},
        {"head__focus__pool": 2},
        {"head__cascade": "sequential"},
        {"head__ffn_skip": "inner"},
        {"head__rope": "none"},
        {"head__chunk_embed": False},
        {"head__proprio_token": False},
    ],
    ids=str,
)
@torch.no_grad()
def test_removing_any_idea_changes_the_action(fields):
    config, head, layout, taps, seen = focused()
    other = heads.build(change(config, **fields), info())
    shared = {
        k: v
        for k, v in head.state_dict().items()
        if k in other.state_dict() and v.shape == other.state_dict()[k].shape
    }
    other.load_state_dict(shared, strict=False)
    a = head.features(climb(head, layout, taps, seen))
    b = other.features(climb(other, layout, taps, seen))
    assert b.isfinite().all()
    assert not torch.allclose(a, b, atol=1e-4)


def test_a_removed_vision_branch_is_blind():
    _, head, layout, taps, seen = focused(head__focus__values="none")
    before = head.features(climb(head, layout, taps, seen))
    for tap in taps:
        tap.hidden[:, layout.vision] += 1
    blind = replace(layout, raw_vision=layout.raw_vision + 1)
    assert torch.equal(before, head.features(climb(head, blind, taps, seen)))


@pytest.mark.parametrize("gate", ["scalar_out", "head", "element"])
def test_a_closed_gate_removes_vision(gate):
    _, head, layout, taps, seen = focused(head__focus__gate=gate)
    for layer in head.blocks:
        if gate == "scalar_out":
            layer.vision.gate.g.data.zero_()
        else:
            layer.vision.gate.linear.weight.data.zero_()
            layer.vision.gate.linear.bias.data.fill_(-1e4)
    before = head.features(climb(head, layout, taps, seen))
    for tap in taps:
        tap.hidden[:, layout.vision] += 1
    assert torch.equal(before, head.features(climb(head, layout, taps, seen)))


@torch.no_grad()
def test_pooling_averages_squares_of_patches():
    """pool=2 equals a 2 x 2 grid whose tokens are the means."""
    _, head, layout, taps, seen = focused(
        head__focus__pool=2, head__focus__top_k_frac=None, head__focus__top_k=3
    )
    pooled = head.features(climb(head, layout, taps, seen))

    def mean(tokens):  # (B, 2 * 16, D) -> (B, 2 * 4, D)
        grid = tokens.view(2, 2, 2, 2, 2, 2, -1)  # B, camera, rows, in row, columns, in column
        return grid.mean((3, 5)).flatten(1, 3)

    small = info(grid=(2, 2))
    config = change(head.config, head__focus__pool=1)
    other = heads.build(config, small)
    other.load_state_dict(head.state_dict())
    v = layout.vision
    few = replace(
        layout, vision=slice(v.start, v.start + 8), queries=slice(v.start + 8, v.start + 11),
        camera=torch.arange(2).repeat_interleave(4), raw_vision=mean(layout.raw_vision),
        vision_valid=torch.ones(2, 8, dtype=torch.bool),
    )  # fmt: skip
    short = []
    for t in taps:
        hidden = torch.cat([t.hidden[:, : v.start], mean(t.vision), t.intent], 1)
        short.append(replace(t, layout=few, hidden=hidden))
    assert torch.allclose(pooled, other.features(climb(other, few, short, seen)), atol=1e-5)


def test_pooling_keeps_cameras_apart():
    valid = torch.ones(2, 32, dtype=torch.bool)
    valid[:, 16:] = False
    _, head, layout, taps, seen = focused(head__focus__pool=2)
    layout = replace(layout, vision_valid=valid)
    before = head.features(climb(head, layout, taps, seen))
    for tap in taps:
        tap.hidden[:, layout.vision.start + 16 : layout.vision.stop] += 1
    assert torch.equal(before, head.features(climb(head, layout, taps, seen)))
