"""``--env.type=costep_desk``: the desk suite as a LeRobot environment.

``--env.task`` is one task, several with commas, or ``all``; each becomes a vector environment of
the suite ``desk``.  A finished environment is frozen until the next rollout instead of being reset
and run on, which would draw another start and pay for physics that nobody looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

CAMERAS = ("agent", "wrist")


@EnvConfig.register_subclass("costep_desk")
@dataclass
class CostepDeskEnv(EnvConfig):
    """image_size: pixels of the square frames; 128, as the demonstrations have, unless changed."""

    task: str | None = "bowl"
    fps: int = 20
    image_size: int = 128
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frame = PolicyFeature(FeatureType.VISUAL, (self.image_size, self.image_size, 3))
        self.features = {
            "action": PolicyFeature(FeatureType.ACTION, (7,)),
            "agent_pos": PolicyFeature(FeatureType.STATE, (8,)),
            **{f"pixels/{camera}": frame for camera in CAMERAS},
        }
        self.features_map = {
            "action": "action",
            "agent_pos": "observation.state",
            **{f"pixels/{camera}": f"observation.images.{camera}" for camera in CAMERAS},
        }

    @property
    def tasks(self) -> tuple[str, ...]:
        """The chosen tasks; an unknown one raises and lists what there is."""
        from costep.sim.desk import TASKS

        names = TASKS if self.task == "all" else tuple((self.task or "").split(","))
        if unknown := [n for n in names if n not in TASKS]:
            raise ValueError(
                f"unknown desk task(s) {unknown}: --env.task takes {', '.join(TASKS)}, several "
                "with commas, or all"
            )
        return names

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        return {"image_size": self.image_size, "render_mode": "rgb_array"}

    def create_envs(self, n_envs: int, use_async_envs: bool = False) -> dict[str, dict[int, Any]]:
        """{"desk": {index of the task: vector environment}}."""
        from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

        several = use_async_envs and n_envs > 1
        kind = partial(AsyncVectorEnv, context="forkserver") if several else SyncVectorEnv
        return {
            "desk": {
                index: kind(
                    [partial(_frozen_when_done, task, self.gym_kwargs)] * n_envs,
                    autoreset_mode=AutoresetMode.SAME_STEP,
                )
                for index, task in enumerate(self.tasks)
            }
        }


def _frozen_when_done(task: str, options: dict[str, Any]) -> Any:
    from lerobot.envs.utils import FreezeAfterEpisodeEnd

    from costep.sim.desk import make_env

    return FreezeAfterEpisodeEnd(make_env(task, **options))
