"""Put the block of the named colour in the bowl; two other blocks are in the way."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, pick_and_place
from costep.sim.desk.objects import BOWL_RADIUS, add_block, add_bowl
from costep.sim.desk.tasks.base import Task, left_alone, place_blocks, scatter
from costep.sim.desk.world import World, shifted


def in_bowl(world: World, name: str) -> bool:
    """The thing's centre is inside the bowl's wall and low."""
    offset = world.position(name) - world.position("bowl")
    return bool(np.linalg.norm(offset[:2]) < BOWL_RADIUS - 0.01 and offset[2] < 0.065)


class Bowl(Task):
    id = "bowl"
    max_steps = 80

    def build(self, spec: mujoco.MjSpec) -> None:
        add_bowl(spec)
        self.blocks = [add_block(spec, f"block{i}") for i in range(3)]

    def reset(self, world: World, rng: np.random.Generator) -> str:
        bowl = rng.uniform((0.44, 0.07), (0.58, 0.15))
        world.fix("bowl", bowl)
        spots = scatter(rng, 3, (0.36, -0.18), (0.64, 0.10), apart=0.095, avoid=((bowl, 0.155),))
        colours = place_blocks(world, rng, self.blocks, spots)
        return f"put the {colours[0]} block in the bowl"

    def success(self, world: World) -> bool:
        target, *others = self.blocks
        alone = not any(in_bowl(world, other.name) for other in others)
        return alone and in_bowl(world, target.name) and left_alone(world, target)

    def plan(self, world: World) -> Move:
        goal = shifted(world.position("bowl"), 0, 0, 0.05)
        return pick_and_place(world, self.blocks[0], goal, in_bowl(world, self.blocks[0].name))
