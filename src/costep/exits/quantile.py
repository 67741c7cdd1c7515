"""Filtered quantiles: the thresholds under which each exit receives its share (A1, eqs. 7 and 9).

V[i, n] is the discrepancy of sample n at exit i, p the exit mass, U the samples that have not left
yet (at first all N).  For every exit but the last, with m samples to take,

    count    m = floor(N p_i)                                the reference's code
    carry    m = floor(N sum_{j<=i} p_j + 1/2) - (N - |U|)   rounding and ties are carried on
    literal  m = floor(|U| p_i)                              the paper's prose

    eta_i = the m-th smallest V[i, n] over U, the largest when m > |U|, never when m <= 0

and every n in U with V[i, n] <= eta_i leaves, ties included.  The last exit always takes what is
left. Thresholds are elements of V, so an inclusive fp32 comparison at run time repeats the
assignment bit for bit. Differences from the reference: ``carry`` is the default, a threshold that
nobody can reach is an explicit ``NEVER``, and NaN is an error rather than a sample that never
leaves.  One pass costs O(|E| N).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Literal["carry", "count", "literal"]

NEVER = -math.inf
ALWAYS = math.inf

log = logging.getLogger(__name__)


def thresholds(values: ArrayLike, mass: ArrayLike, rule: Rule = "carry") -> tuple[float, ...]:
    """One threshold per exit for ``values`` V (|E|, N) and ``mass`` p (|E|,); the last is inf."""
    v, p = checked(values), np.asarray(mass, dtype=np.float64)
    if p.shape != (len(v),):
        raise ValueError(
            f"V has {len(v)} rows and the mass {p.size} entries; both need one per calibrated exit"
        )
    if rule not in ("carry", "count", "literal"):
        raise ValueError(f"exits.quantile={rule!r}; expected carry, count or literal")
    total, waiting, eta = v.shape[1], np.arange(v.shape[1]), []
    for i in range(len(v) - 1):
        match rule:
            case "count":
                m = _floor(total * p[i])
            case "carry":
                m = _floor(total * p[: i + 1].sum() + 0.5) - (total - waiting.size)
            case _:
                m = _floor(waiting.size * p[i])
        left = v[i, waiting]
        eta.append(_smallest(left, m))
        waiting = waiting[left > eta[-1]]
        if left.size and not waiting.size and total * p[i + 1 :].sum() >= 1:
            log.warning(
                "all %d samples leave at exits 0..%d (rounding or ties); the later ones never stop",
                total,
                i,
            )
    return (*eta, ALWAYS)


def _floor(x: float) -> int:
    """Floor with a relative guard: 100 * 0.29 is 29 samples although float64 says 28.999999."""
    return math.floor(x * (1 + 1e-9))


def _smallest(values: NDArray[np.float32], m: int) -> float:
    """The m-th smallest of ``values`` (1-based), as a float that is exactly an fp32 number."""
    if m <= 0 or not values.size:
        return NEVER
    k = min(m, values.size) - 1
    return float(np.partition(values, k)[k])


def assign(values: ArrayLike, eta: Sequence[float]) -> NDArray[np.intp]:
    """The exit (N,) of each sample: the first i with V[i, n] <= eta_i in fp32, else the last."""
    v = checked(values)
    if len(eta) != len(v):
        raise ValueError(
            f"{len(eta)} thresholds for {len(v)} rows of V; both need one per calibrated exit"
        )
    leaves = v <= np.asarray(eta, dtype=np.float32)[:, None]
    leaves[-1] = True
    return leaves.argmax(0)


def shares(taken: ArrayLike, exits: int) -> NDArray[np.float64]:
    """Distribution (exits,) over the exits that ``assign`` returned."""
    taken = np.asarray(taken)
    return np.bincount(taken, minlength=exits) / max(1, taken.size)


def checked(values: ArrayLike) -> NDArray[np.float32]:
    """V as a finite fp32 matrix (|E|, N); raises ValueError naming what is wrong."""
    v = np.asarray(values, dtype=np.float32)
    if v.ndim != 2 or 0 in v.shape:
        raise ValueError(
            f"V has shape {v.shape}; expected (exits, samples) with at least one of each"
        )
    if not np.isfinite(v).all():
        exit_, sample = np.argwhere(~np.isfinite(v))[0]
        raise ValueError(
            f"V[{exit_}, {sample}] = {v[exit_, sample]}; discrepancies must be finite. Either the "
            "policy predicts NaN, or an exit without anything to compare with was not left out"
        )
    return v
