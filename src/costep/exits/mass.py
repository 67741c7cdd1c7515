"""Exit mass: the share of queries that should leave at each exit (A1, eqs. 8, 11 and 12).

    exponential  p_i ~ c^i                i = 1..n    c < 1 leaves early, 1 is uniform, > 1 late
    gaussian     p_i ~ exp(-(i - c)^2/2)  i = 0..n-1  c is the index of the favoured exit
    gamma        p_i ~ i^(c-1) e^(-i/2)   i = 1..n    c is the shape
    custom       the given weights

All in float64 and through logarithms, so that an extreme c neither overflows nor vanishes.
Differences from the reference: any exit before ``min_layer`` gets no mass (there: the first exit,
for two model sizes), and an integer c is as good as a float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Family = Literal["exponential", "gaussian", "gamma", "custom"]
Array = NDArray[np.float64]


def exit_mass(
    layers: Sequence[int],
    family: Family = "exponential",
    c: float = 1.0,
    *,
    min_layer: int = 0,
    custom: Sequence[float] | None = None,
) -> Array:
    """Shares (n,) of the n exits ``layers`` (0-based backbone layers), summing to one.

    ``custom`` holds n non-negative weights and is read by the family of that name only.  Raises
    ValueError for an impossible parameter, or when ``min_layer`` leaves no exit.
    """
    log_weight = _log_weights(len(layers), family, c, custom)
    log_weight = np.where(np.asarray(layers) < min_layer, -np.inf, log_weight)
    top = log_weight.max(initial=-np.inf)
    if top == -np.inf:
        raise ValueError(
            f"no exit is left to carry mass: exits {tuple(layers)}, min_layer={min_layer}, "
            f"weights {custom}; lower exits.min_layer or give a later exit some weight"
        )
    weight = np.exp(log_weight - top)
    return weight / weight.sum()


def _log_weights(n: int, family: Family, c: float, custom: Sequence[float] | None) -> Array:
    i = np.arange(1, n + 1, dtype=np.float64)
    if not math.isfinite(c):
        raise ValueError(f"exits.c={c}; expected a finite number")
    match family:
        case "exponential":
            if c <= 0:
                raise ValueError(
                    f"exits.c={c}; the exponential mass c^i needs c > 0 (small c leaves early)"
                )
            return i * math.log(c)
        case "gaussian":
            return -0.5 * (i - 1 - c) ** 2
        case "gamma":
            return (c - 1) * np.log(i) - i / 2
        case "custom":
            return _log_custom(n, custom)
    raise ValueError(f"exits.family={family!r}; expected exponential, gaussian, gamma or custom")


def _log_custom(n: int, custom: Sequence[float] | None) -> Array:
    weight = np.asarray(() if custom is None else custom, dtype=np.float64)
    if weight.shape != (n,):
        raise ValueError(
            f"exits.mass has {weight.size} weights for {n} calibrated exits; give one per exit"
        )
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(
            f"exits.mass={tuple(weight.tolist())}; every weight must be finite and >= 0"
        )
    with np.errstate(divide="ignore"):
        return np.log(weight)


def mean_depth(mass: Array | Sequence[float], layers: Sequence[int]) -> float:
    """Expected number of layers run, sum_i p_i (e_i + 1) for 0-based exits e_i."""
    return float(np.asarray(mass, dtype=np.float64) @ (np.asarray(layers) + 1))
