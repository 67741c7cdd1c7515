"""The hand-written RMSNorm against torch's, values and gradients."""

import pytest
import torch

from costep.nn.norm import RMSNorm


def both(x, upstream, weight):
    ours, theirs = RMSNorm(x.shape[-1]), torch.nn.RMSNorm(x.shape[-1], eps=1e-6)
    results = []
    for module in (ours, theirs):
        module = module.to(weight.dtype)
        module.weight.data.copy_(weight)
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        y.backward(upstream)
        results.append((y, leaf.grad, module.weight.grad))
    return results


@pytest.mark.parametrize("shape", [(7, 12), (2, 5, 12), (2, 3, 4, 12)])
def test_equals_torch(shape):
    x, upstream = torch.randn(shape) * 3, torch.randn(shape)
    for ours, theirs in zip(*both(x, upstream, torch.rand(12) + 0.5)):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_equals_torch_in_double():
    x, upstream = torch.randn(3, 12).double(), torch.randn(3, 12).double()
    for ours, theirs in zip(*both(x, upstream, torch.rand(12).double())):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_bf16_statistics_are_wide():
    x, upstream = torch.randn(64, 512).bfloat16(), torch.randn(64, 512).bfloat16()
    weight = torch.ones(512)
    norm = RMSNorm(512)
    leaf = x.clone().requires_grad_()
    norm(leaf).backward(upstream)
    exact = both(x.float(), upstream.float(), weight)[1]
    assert norm(x).dtype == torch.bfloat16
    assert (norm(x).float() - exact[0]).abs().max() < 0.05
    assert (leaf.grad.float() - exact[1]).abs().max() < 0.05
    assert torch.allclose(norm.weight.grad, exact[2], rtol=0.05, atol=0.3)


def test_zero_rows_are_finite():
    x = torch.zeros(2, 8, requires_grad=True)
    y = RMSNorm(8)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 8))
    assert x.grad.isfinite().all()
