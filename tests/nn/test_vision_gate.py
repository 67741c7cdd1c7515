"""Gates on the vision branch: which multiply logits, which the output, and what closes them."""

import pytest
import torch

from costep.nn.gates import VisionGate


def filled(kind, value):
    """A gate whose sigmoid or tanh is saturated by ``value``."""
    gate = VisionGate(kind, 12, 3)
    if kind.startswith("scalar"):
        torch.nn.init.constant_(gate.g, value)
    elif kind != "none":
        torch.nn.init.zeros_(gate.linear.weight)
        torch.nn.init.constant_(gate.linear.bias, value)
    return gate


@pytest.mark.parametrize("kind", ["scalar_out", "head", "element"])
def test_an_open_gate_is_none_and_a_closed_one_zero(kind):
    o, x = torch.randn(2, 4, 12), torch.randn(2, 4, 12)
    assert torch.allclose(filled(kind, 50.0)(o, x), o)
    closed = 0.0 if kind == "scalar_out" else -1e3
    assert torch.equal(filled(kind, closed)(o, x), torch.zeros_like(o))


def test_the_logit_gate_at_zero_is_mean_pooling_not_silence():
    s = torch.randn(2, 3, 4, 9)
    gate = VisionGate("scalar_logit", 12, 3)
    p = gate.logits(s).softmax(-1)
    assert torch.allclose(p, torch.full_like(p, 1 / 9))
    o = torch.randn(2, 4, 12)
    assert torch.equal(gate(o, o), o)
    gate.g.data.fill_(0.5)
    assert torch.allclose(gate.logits(s), s * torch.tensor(0.5).tanh())


@pytest.mark.parametrize("kind", ["none", "scalar_out", "head", "element"])
def test_only_the_logit_gate_touches_scores(kind):
    s = torch.randn(2, 3, 4, 9)
    assert VisionGate(kind, 12, 3).logits(s) is s


def test_element_and_head_gates_by_hand():
    o, x = torch.randn(2, 4, 12), torch.randn(2, 4, 12)
    element, head = VisionGate("element", 12, 3), VisionGate("head", 12, 3)
    w, b = element.linear.weight, element.linear.bias
    assert torch.allclose(element(o, x), o / (1 + (-(x @ w.T + b)).exp()), atol=1e-6)
    g = 1 / (1 + (-(x @ head.linear.weight.T + head.linear.bias)).exp())
    assert torch.allclose(head(o, x), o * g.repeat_interleave(4, -1), atol=1e-6)


def test_parameters_are_only_those_of_the_kind():
    counts = {
        k: sum(p.numel() for p in VisionGate(k, 896, 8).parameters())
        for k in ("none", "scalar_logit", "scalar_out", "head", "element")
    }
    assert counts == {
        "none": 0, "scalar_logit": 1, "scalar_out": 1, "head": 7176, "element": 803_712
    }  # fmt: skip


def test_an_unknown_kind_raises():
    with pytest.raises(ValueError, match="gate 'soft'; expected one of"):
        VisionGate("soft", 12, 3)
