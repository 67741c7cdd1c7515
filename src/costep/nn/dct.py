"""The orthonormal discrete cosine transform along a chunk (DCT-II and its inverse).

    c_k = sqrt(2 / T) s_k sum_n x_n cos(pi (n + 1/2) k / T),   s_0 = 1 / sqrt(2), s_k = 1

Smooth motion ends up in the first few coefficients.  The matrix is orthonormal, so errors keep
their length: rounding every coefficient by at most e moves a chunk by at most e sqrt(T).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def basis(length: int) -> Tensor:
    """(T, T), fp32: row k is the k-th cosine; its transpose is its inverse."""
    k = torch.arange(length, dtype=torch.float64)
    rows = torch.cos(math.pi / length * k[:, None] * (k + 0.5)) * math.sqrt(2 / length)
    rows[0] /= math.sqrt(2)
    return rows.float()


def dct(x_BTA: Tensor) -> Tensor:
    """Chunks (B, T, A) -> coefficients (B, T, A), lowest frequency first."""
    return _product(basis(x_BTA.shape[1]), x_BTA)


def idct(c_BTA: Tensor) -> Tensor:
    """Coefficients (B, T, A) -> chunks (B, T, A)."""
    return _product(basis(c_BTA.shape[1]).T, c_BTA)


def _product(m_TT: Tensor, x_BTA: Tensor) -> Tensor:
    """fp32 even under autocast: a rounded coefficient must be the same wherever it is computed."""
    with torch.autocast(x_BTA.device.type, enabled=False):
        return m_TT.to(x_BTA.device) @ x_BTA.float()
