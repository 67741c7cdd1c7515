"""Synthetic recordings: discrepancies that shrink with depth, correlated within an episode."""

import numpy as np
import pytest


def make(episodes=60, queries=25, exits=4, seed=0, tasks=3):
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), queries)
    hard = rng.normal(0, 0.3, episodes)[episode]
    noise = rng.normal(0, 1, (exits, episode.size))
    v = np.exp(hard + noise - 0.5 * np.arange(exits)[:, None]).astype(np.float32)
    return v, episode, episode % tasks


@pytest.fixture
def record():
    """A function that makes V (exits, N) heavy-tailed fp32, episode (N,) and task (N,)."""
    return make
