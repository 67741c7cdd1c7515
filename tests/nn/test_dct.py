"""The cosine transform: against scipy, orthonormal, smooth motion first."""

import numpy as np
import pytest
import torch

from costep.nn.dct import basis, dct, idct


@pytest.mark.parametrize("length", [1, 4, 8, 50])
def test_it_equals_scipy(length):
    fft = pytest.importorskip("scipy.fft")
    x = torch.randn(3, length, 7)
    expected = fft.dct(x.numpy().astype(np.float64), axis=1, norm="ortho")
    assert np.allclose(dct(x), expected, atol=1e-5)


@pytest.mark.parametrize("length", [1, 8, 50])
def test_there_and_back(length):
    x = torch.randn(3, length, 7)
    assert torch.allclose(idct(dct(x)), x, atol=1e-5)
    assert torch.allclose(basis(length) @ basis(length).T, torch.eye(length), atol=1e-6)


def test_standing_still_is_one_coefficient():
    c = dct(torch.full((1, 8, 2), 0.5))
    assert torch.allclose(c[:, 0], torch.full((1, 2), 0.5 * 8**0.5))
    assert c[:, 1:].abs().max() < 1e-6
