"""Cascaded against mixed attention: who shares a softmax with whom."""

from dataclasses import replace

import pytest
import torch
from miniature import climb, info, make_layout, make_taps, miniature, observe

from costep import heads
from costep.config import Head
from costep.heads.bridge import bridge
from costep.heads.cascade import parallel, sequential
from costep.heads.streams import Context, Streams
from costep.heads.vision import VisionBranch


def parts(width=12, **fields):
    head = Head(width=width, heads=3, **fields)
    return Streams(head), VisionBranch(head)


def make_context(scale=1.0):
    torch.manual_seed(3)
    pair = lambda n: (torch.randn(2, 3, n, 4), torch.randn(2, 3, n, 4))  # noqa: E731
    intent, (k, v) = pair(5), pair(16)
    valid = torch.ones(2, 16, dtype=torch.bool)
    return Context(intent, (k * scale, v), valid, torch.zeros(16, dtype=torch.long))


@pytest.mark.parametrize("attend", [parallel, bridge])
def test_only_a_shared_softmax_lets_vision_crowd_the_others(attend):
    """Scaling vision's keys moves H_A and H_AQ in mixed attention, and not in cascaded."""
    streams, vision = parts()
    x = torch.randn(2, 4, 12)
    soft, loud = (attend(streams, vision, x, make_context(s)) for s in (1.0, 30.0))
    independent = attend is parallel
    assert torch.equal(soft[0], loud[0]) is independent
    assert torch.equal(soft[1], loud[1]) is independent
    assert not torch.allclose(soft[2], loud[2], atol=1e-4)


def test_sequential_branches_read_what_the_last_one_wrote():
    streams, vision = parts()
    x, context = torch.randn(2, 4, 12), make_context()
    a, b = parallel(streams, vision, x, context), sequential(streams, vision, x, context)
    assert torch.equal(a[0], b[0])  # the first branch reads the same latent
    assert not torch.allclose(a[1], b[1], atol=1e-4)
    assert not torch.allclose(a[2], b[2], atol=1e-4)
    again = parallel(streams, vision, x + a[0], context)
    assert torch.allclose(b[1], again[1], atol=1e-6)
    last = parallel(streams, vision, x + a[0] + b[1], context)
    assert torch.allclose(b[2], last[2], atol=1e-6)


def test_the_sequential_gate_reads_the_updated_latent():
    head = Head(width=12, heads=3, focus=replace(Head().focus, gate="element"))
    streams, vision = Streams(head), VisionBranch(head)
    x, context = torch.randn(2, 4, 12), make_context()
    action, intent, seen, _ = sequential(streams, vision, x, context)
    updated = x + action + intent
    expected, _ = vision(streams.ask(updated, "vis"), updated, context)
    assert torch.allclose(seen, expected, atol=1e-6)


def test_a_fresh_scalar_gate_pools_vision():
    """At g = 0 the logit gate gives vision 512 / 585 of the mass, about .87 (baselines test 5)."""
    head = Head(
        attention="mixed", fusion="joint", width=64, heads=8,
        focus=replace(Head().focus, gate="scalar_logit"),
    )  # fmt: skip
    streams, vision = Streams(head), VisionBranch(head)
    ones = lambda n: (torch.randn(1, 8, n, 8) * 0.3, torch.ones(1, 8, n, 8))  # noqa: E731
    valid = torch.ones(1, 512, dtype=torch.bool)
    context = Context(ones(65), ones(512), valid, torch.zeros(512, dtype=torch.long))
    x = torch.randn(1, 8, 64)
    streams.v["act"].weight.data.zero_()
    streams.v["act"].bias.data.fill_(1.0)
    mass = [o.mean().item() for o in bridge(streams, vision, x, context)[:3]]
    assert sum(mass) == pytest.approx(1.0, abs=1e-4)
    assert mass == pytest.approx([0.014, 0.111, 0.875], abs=0.03)


@pytest.mark.parametrize("name", ["vla_adapter", "focusvla", "s2vla"])
def test_actions_of_a_chunk_differ_from_a_zero_stem(name):
    config = miniature(name)
    about = info()
    head = heads.build(config, about)
    layout, seen = make_layout(about), observe(config)
    beliefs = torch.randn(1, 2, 12) if config.head.gated else None
    x = head.features(climb(head, layout, make_taps(about, layout), seen, beliefs))
    spread = (x[:, :, None] - x[:, None]).abs().amax(-1)
    assert spread[:, ~torch.eye(4, dtype=torch.bool)].min() > 1e-5


def test_without_positions_all_actions_are_one():
    """The original adapter's defect, kept for imported weights alone (baselines test 3)."""
    config = miniature(
        "vla_adapter",
        head__kv="shared", head__rope="none", head__chunk_embed=False, upstream_compat=True,
    )  # fmt: skip
    about = info()
    head = heads.build(config, about).eval()  # in training its stem sees noise
    layout, seen = make_layout(about), observe(config)
    x = head.features(climb(head, layout, make_taps(about, layout), seen))
    assert (x - x[:, :1]).abs().max() == 0
