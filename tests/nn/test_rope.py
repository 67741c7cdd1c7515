"""Rotary positions: relative and length-preserving; the upstream imitation is neither."""

import pytest
import torch

from costep.nn.rope import angles, restart, rotate

OFFSET, STARTS = 3, (0, 4, 11)


def scores_at_equal_offset(form):
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)
    at = lambda n: angles(torch.tensor([n]), 16, 1e4)  # noqa: E731
    return [float((rotate(q, at(s), form) * rotate(k, at(s + OFFSET), form)).sum()) for s in STARTS]


def test_scores_depend_on_the_offset_only():
    a, b, c = scores_at_equal_offset("half")
    assert b == pytest.approx(a, abs=1e-4)
    assert c == pytest.approx(a, abs=1e-4)


def test_the_upstream_form_is_not_relative():
    a, b, c = scores_at_equal_offset("upstream")
    assert abs(a - b) > 0.1
    assert abs(a - c) > 0.1


def test_norms_are_kept_by_the_correct_form_alone():
    x = torch.randn(1, 2, 20, 16)
    angle = angles(torch.arange(20), 16, 1e4)
    norms = x.norm(dim=-1)
    assert torch.allclose(rotate(x, angle).norm(dim=-1), norms, atol=1e-5)
    assert (rotate(x, angle, "upstream").norm(dim=-1) - norms).abs().max() > 0.01


def test_against_complex_numbers():
    """Pairs (j, j + d/2) turn by position * theta^(-2j/d)."""
    x, theta = torch.randn(1, 1, 6, 8, dtype=torch.float64), 100.0
    z = torch.complex(x[..., :4], x[..., 4:])
    rate = theta ** (-2 * torch.arange(4, dtype=torch.float64) / 8)
    turned = z * torch.exp(1j * torch.arange(6, dtype=torch.float64)[:, None] * rate)
    expected = torch.cat([turned.real, turned.imag], -1)
    assert torch.allclose(rotate(x, angles(torch.arange(6), 8, theta)), expected, atol=1e-6)


def test_upstream_against_its_description():
    """Half-split frequencies cat(f, f) with the interleaved rotation (baselines 6.2)."""
    x = torch.randn(1, 1, 5, 8)
    f = angles(torch.arange(5), 8, 1e4)
    f = torch.cat([f, f], -1)
    turned = torch.empty_like(x)
    for j in range(4):
        turned[..., 2 * j], turned[..., 2 * j + 1] = -x[..., 2 * j + 1], x[..., 2 * j]
    assert torch.allclose(rotate(x, f[:, :4], "upstream"), x * f.cos() + turned * f.sin())


def test_streams_restart_at_zero():
    x = torch.randn(2, 3, 5, 8)
    assert torch.equal(restart(x, 1e4)[:, :, 0], x[:, :, 0])
    assert torch.equal(restart(x, 1e4), rotate(x, angles(torch.arange(5), 8, 1e4)))


def test_rows_may_have_their_own_positions():
    x = torch.randn(2, 1, 3, 8)
    position = torch.tensor([[0, 1, 2], [5, 6, 7]])
    both = rotate(x, angles(position, 8, 1e4))
    assert torch.equal(both[1:], rotate(x[1:], angles(position[1], 8, 1e4)))
