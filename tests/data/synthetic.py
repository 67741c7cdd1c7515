"""Synthetic episodes: smooth colour gradients whose colour tells seed and frame, actions that tell
where they came from."""

from __future__ import annotations

import dataclasses

import numpy as np

from costep.data.contract import Contract, desk
from costep.data.episode import Episode
from costep.types import ImageSpec


def small_contract(chunk: int = 4, pixels: int = 32) -> Contract:
    images = (ImageSpec("agent", pixels, pixels), ImageSpec("wrist", pixels, pixels))
    return dataclasses.replace(desk(chunk), images=images)


def make_episode(task: str = "red", seed: int = 0, length: int = 12, pixels: int = 32) -> Episode:
    """Frame t of camera c is a gradient shifted by t; action[t] = t / 100 + noise-free ramps;
    gripper closes half way."""
    rng = np.random.default_rng([seed, len(task)])
    ramp = np.arange(length)[:, None] / 100
    action = np.clip(ramp + rng.uniform(-0.5, 0.5, (length, 7)), -1, 1)
    action[:, 4] = 0.25
    action[:, 6] = np.where(np.arange(length) < length // 2, -1, 1)
    executed = action.copy()
    executed[:, :3] = np.clip(executed[:, :3] + rng.normal(size=(length, 3)) * 0.05, -1, 1)
    return Episode(
        images={
            camera: gradient(length, pixels, 40 * k + seed)
            for k, camera in enumerate(("agent", "wrist"))
        },
        state=rng.normal(size=(length, 8)),
        action=action,
        executed=executed,
        stages=["reach"] * (length // 2) + ["grasp"] * (length - length // 2),
        instruction=f"push the {task} block",
        seed=seed,
    )


def gradient(length: int, pixels: int, offset: int) -> np.ndarray:
    y, x = np.mgrid[0:pixels, 0:pixels]
    base = np.stack([x, y, (x + y) / 2], -1) * (150 / pixels)
    return np.stack([np.clip(base + 7 * t + offset, 0, 255) for t in range(length)]).astype(
        np.uint8
    )
