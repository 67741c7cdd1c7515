"""Put the block of the named colour in the open drawer; two other blocks are in the way."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, pick_and_place
from costep.sim.desk.objects import DRAWER_TRAVEL, add_block, add_cabinet
from costep.sim.desk.tasks.base import Task, left_alone, place_blocks, scatter
from costep.sim.desk.world import World, shifted


class Store(Task):
    id = "store"
    max_steps = 80

    def build(self, spec: mujoco.MjSpec) -> None:
        add_cabinet(spec)
        self.blocks = [add_block(spec, f"block{i}") for i in range(3)]

    def reset(self, world: World, rng: np.random.Generator) -> str:
        front = rng.uniform((0.34, 0.09), (0.38, 0.15))
        world.fix("cabinet", front, rng.uniform(-0.12, 0.12))
        world.data.joint("drawer").qpos[0] = DRAWER_TRAVEL - 0.002
        middle = np.array([front[0] + 0.06, front[1]])
        spots = scatter(rng, 3, (0.43, -0.18), (0.64, 0.14), apart=0.095, avoid=((middle, 0.17),))
        colours = place_blocks(world, rng, self.blocks, spots)
        return f"put the {colours[0]} block in the drawer"

    def inside(self, world: World, name: str) -> bool:
        """The thing's centre is within the drawer's box and low, in the drawer's own frame."""
        drawer = world.data.body("drawer")
        x, y, z = drawer.xmat.reshape(3, 3).T @ (world.position(name) - drawer.xpos)
        return bool(-0.125 < x < -0.005 and abs(y) < 0.075 and z < 0.06)

    def success(self, world: World) -> bool:
        target, *others = self.blocks
        alone = not any(self.inside(world, other.name) for other in others)
        return alone and self.inside(world, target.name) and left_alone(world, target)

    def plan(self, world: World) -> Move:
        target = self.blocks[0]
        goal = shifted(world.site("inside"), 0, 0, 0.045)
        return pick_and_place(
            world, target, goal, self.inside(world, target.name), yaw=world.yaw("cabinet")
        )
