"""`DeskEnv`: the suite as a Gymnasium environment in LeRobot's conventions.

Observation {"pixels": {"agent", "wrist"}: (128, 128, 3) uint8, "agent_pos": (8,) float32}; action
(7,) in [-1, 1]; 20 Hz, 25 physics steps of 2 ms each. `reset(seed=...)` fixes everything: poses,
colours, light, instruction.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np

from costep.sim import gl
from costep.sim.desk.controller import STEP, Controller
from costep.sim.desk.scene import CAMERAS, TIMESTEP, Look, base_spec, randomise
from costep.sim.desk.tasks import TASKS
from costep.sim.desk.world import World

START = ((0.39, -0.03, 0.20), (0.45, 0.03, 0.24))  # where the hand starts, metres
START_YAW = 0.1
SUBSTEPS = round(STEP / TIMESTEP)
_COSTLY = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


class DeskEnv(gymnasium.Env):
    """One task of the suite. `images=False` leaves "pixels" out and never touches OpenGL."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: str = "bowl",
        *,
        images: bool = True,
        image_size: int = 128,
        render_mode: str | None = "rgb_array",
    ) -> None:
        if task not in TASKS:
            raise ValueError(f"unknown desk task {task!r}: choose one of {', '.join(TASKS)}")
        self.task, self.task_description = task, ""
        self.images, self.image_size, self.render_mode = images, image_size, render_mode
        self.scene_task = TASKS[task]()
        self._max_episode_steps = self.scene_task.max_steps
        spec = base_spec()
        self.scene_task.build(spec)
        self.world = World(spec)
        self._look = Look.of(self.world.model)
        self._controller = Controller()
        self._renderers: dict[int, mujoco.Renderer] = {}
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = self._observation_space()

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        joints = self._controller.joints_at(self.np_random.uniform(*START), self._start_yaw())
        self.world.reset(joints)
        randomise(self.world.model, self._look, self.np_random)
        self.task_description = self.scene_task.reset(self.world, self.np_random)
        self._controller.reset(joints)
        self._steps = 0
        self.world.settle()
        self._advance(np.array([0, 0, 0, 0, 0, 0, -1.0]))
        return self._observe(), self._info(success=False)

    def step(self, action: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        action = np.asarray(action, np.float64)
        if action.shape != (7,) or not np.isfinite(action).all():
            raise ValueError(
                f"a desk action is 7 finite numbers, got shape {action.shape}: {action}"
            )
        self._advance(np.clip(action, -1.0, 1.0))
        self._steps += 1
        self.scene_task.observe(self.world)
        success = self.scene_task.success(self.world)
        truncated = not success and self._steps >= self._max_episode_steps
        return self._observe(), float(success), success, truncated, self._info(success)

    def render(self) -> np.ndarray | None:
        """The third-person picture at the observation's size."""
        return self.picture("agent") if self.render_mode == "rgb_array" else None

    def picture(self, camera: str, size: int | None = None) -> np.ndarray:
        """(size, size, 3) uint8 from one camera; another size gets a renderer of its own."""
        size = size or self.image_size
        if size not in self._renderers:
            self._renderers[size] = gl.open_renderer(self, self.world.model, size)
            for flag in _COSTLY:
                self._renderers[size].scene.flags[flag] = 0
        self._renderers[size].update_scene(self.world.data, camera)
        return self._renderers[size].render()

    def close(self) -> None:
        while self._renderers:
            self._renderers.popitem()[1].close()

    def _advance(self, action: np.ndarray) -> None:
        world = self.world
        world.data.ctrl[:] = self._controller.command(
            action, world.eef, world.eef_quat, world.fingers
        )
        mujoco.mj_step(world.model, world.data, SUBSTEPS)
        mujoco.mj_forward(world.model, world.data)

    def _observe(self) -> dict:
        observation: dict[str, Any] = {"agent_pos": self.world.proprioception()}
        if self.images:
            observation["pixels"] = {camera: self.picture(camera) for camera in CAMERAS}
        return observation

    def _start_yaw(self) -> float:
        return float(self.np_random.uniform(-START_YAW, START_YAW))

    def _info(self, success: bool) -> dict:
        return {"is_success": success, "task": self.task, "instruction": self.task_description}

    def _observation_space(self) -> gymnasium.spaces.Dict:
        picture = gymnasium.spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        spaces: dict[str, gymnasium.Space] = {
            "agent_pos": gymnasium.spaces.Box(-np.inf, np.inf, (8,), np.float32)
        }
        if self.images:
            spaces["pixels"] = gymnasium.spaces.Dict(dict.fromkeys(CAMERAS, picture))
        return gymnasium.spaces.Dict(spaces)
