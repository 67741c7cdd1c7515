"""A short synthetic recording with everything a policy can reveal."""

from __future__ import annotations

import numpy as np
import pytest

from costep.evaluate.recording import Recording


@pytest.fixture
def recording() -> Recording:
    rng = np.random.default_rng(0)
    steps, queries = 40, 5
    actions = rng.normal(size=(steps, 7)).astype(np.float32)
    actions[:, 6] = np.where((np.arange(steps) >= 12) & (np.arange(steps) < 30), 1.0, -1.0)
    gates = rng.dirichlet((2.0, 2.0, 2.0), queries).astype(np.float32)
    frames = np.full((steps + 1, 16, 16, 3), 90, np.uint8)
    frames[:, 4:12, 4:12] = (np.arange(steps + 1) * 4).astype(np.uint8)[:, None, None, None]
    nan = np.nan
    return Recording(
        task="stack",
        seed=3,
        instruction="stack the red block",
        success=True,
        control_hz=20.0,
        layers_total=8,
        frames={"agent": frames, "wrist": frames[:, :, ::-1]},
        actions=actions,
        query_steps=np.arange(0, steps, 8),
        ms=np.linspace(10, 20, queries),
        layers_run=np.array([8, 4, 6, 4, 8]),
        exit_layer=np.array([7, 3, 5, 3, 7]),
        gates={2: gates, 4: gates[::-1]},
        kept={3: rng.random((queries, 32)).astype(np.float32)},
        discrepancies={
            3: np.array([0.5, 0.1, 0.4, 0.1, 0.6]),
            5: np.array([0.4, nan, 0.1, nan, 0.3]),
        },
    )
