"""Open the drawer: grasp the bar on its front and pull it towards the camera."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, grasp, near, rise_from
from costep.sim.desk.objects import HANDLE_WIDTH, add_cabinet
from costep.sim.desk.tasks.base import Task
from costep.sim.desk.world import World

OPENED = 0.095  # metres that count as open, of 0.12
PULLED = 0.108  # metres after which the expert lets go


class Drawer(Task):
    id = "drawer"
    max_steps = 80

    def build(self, spec: mujoco.MjSpec) -> None:
        add_cabinet(spec)

    def reset(self, world: World, rng: np.random.Generator) -> str:
        world.fix("cabinet", rng.uniform((0.38, -0.12), (0.44, 0.12)), rng.uniform(-0.25, 0.25))
        return "open the drawer"

    def success(self, world: World) -> bool:
        away = world.gap > 0.06 and not near(world, world.site("handle"))
        return bool(away and world.slide("drawer") > OPENED and world.speed("drawer") < 0.02)

    def plan(self, world: World) -> Move:
        handle, yaw = world.site("handle"), world.yaw("cabinet")
        opened = world.slide("drawer")
        held = world.encloses(handle, HANDLE_WIDTH)
        if opened > (PULLED if held else OPENED):
            return rise_from(world, handle)
        if held:
            ahead = handle + 0.06 * np.array([np.cos(yaw), np.sin(yaw), 0])
            return Move("pull", ahead, yaw, close=True, speed=0.45)
        return grasp(world, handle, yaw)
