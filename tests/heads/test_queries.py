"""Depth-0 heads: the backbone's own query states are the latent."""

from dataclasses import replace

import pytest
import torch
from miniature import climb, info, make, make_layout, make_taps, miniature, observe

from costep import heads


def on_taps(**fields):
    config = miniature("a1_mlp", **fields)
    about = info()
    layout = make_layout(about, queries=28)
    return config, heads.build(config, about), layout, make_taps(about, layout), observe(config)


def test_the_latent_is_one_step_per_row():
    """(B, T A, D) seen as (B, T, A D): step t concatenates its own A queries (a1 section 3)."""
    _, head, layout, taps, seen = on_taps(exits__norm="raw")
    state = climb(head, layout, taps[:3], seen)
    queries = taps[2].hidden[:, layout.queries]
    for step in range(4):
        expected = torch.cat([queries[:, 7 * step + d] for d in range(7)], -1)
        assert torch.equal(head.features(state)[:, step], expected)


def test_nothing_is_carried():
    """Only the exit's own tap counts."""
    _, head, layout, taps, seen = on_taps()
    assert torch.equal(
        head.features(climb(head, layout, taps[:4], seen)),
        head.features(climb(head, layout, taps[3:4], seen)),
    )


@pytest.mark.parametrize("norm", ["raw", "final"])
def test_the_final_norm_is_a_switch(norm):
    _, head, layout, taps, seen = on_taps(exits__norm=norm)
    tap = replace(taps[0], final_norm=lambda x: 2 * x)
    x = head.features(climb(head, layout, [tap], seen))
    plain = tap.intent.unflatten(1, (4, 7)).flatten(2)
    assert torch.equal(x, 2 * plain if norm == "final" else plain)


def test_proprioception_is_a_token_before_the_queries():
    config = miniature("oft")
    policy, seen = make(config), observe(config)
    token = policy.head.prefix(seen)
    assert token.shape == (2, 1, 32)
    moved = replace(seen, state=seen.state + 1)
    a, b = policy.act(seen)[0].actions, policy.act(moved)[0].actions
    assert not torch.allclose(a, b, atol=1e-6)
    blind = make(miniature("oft", head__proprio_token=False))
    assert torch.equal(blind.act(seen)[0].actions, blind.act(moved)[0].actions)


def test_no_flow_on_queries():
    _, head, layout, taps, seen = on_taps()
    with pytest.raises(TypeError, match="QueryHead carries no flow decoder"):
        head.rerun(climb(head, layout, taps[:1], seen), torch.zeros(2, 4, 7), torch.ones(2))
