"""Put the block of the named colour on the plate; two other blocks are in the way."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, pick_and_place
from costep.sim.desk.objects import PLATE_HEIGHT, PLATE_RADIUS, add_block, add_plate
from costep.sim.desk.tasks.base import Task, left_alone, place_blocks, scatter
from costep.sim.desk.world import World, shifted


def on_plate(world: World, name: str) -> bool:
    """The thing's centre is over the plate and as low as a block that lies on it."""
    offset = world.position(name) - world.position("plate")
    return bool(
        np.linalg.norm(offset[:2]) < PLATE_RADIUS - 0.01 and offset[2] < PLATE_HEIGHT + 0.035
    )


class Plate(Task):
    id = "plate"
    max_steps = 80

    def build(self, spec: mujoco.MjSpec) -> None:
        add_plate(spec)
        self.blocks = [add_block(spec, f"block{i}") for i in range(3)]

    def reset(self, world: World, rng: np.random.Generator) -> str:
        plate = rng.uniform((0.44, 0.07), (0.58, 0.15))
        world.fix("plate", plate)
        spots = scatter(rng, 3, (0.36, -0.18), (0.64, 0.10), apart=0.095, avoid=((plate, 0.155),))
        colours = place_blocks(world, rng, self.blocks, spots)
        return f"put the {colours[0]} block on the plate"

    def success(self, world: World) -> bool:
        target, *others = self.blocks
        alone = not any(on_plate(world, other.name) for other in others)
        return alone and on_plate(world, target.name) and left_alone(world, target)

    def plan(self, world: World) -> Move:
        target = self.blocks[0]
        goal = shifted(world.position("plate"), 0, 0, PLATE_HEIGHT + target.half_height + 0.004)
        return pick_and_place(world, target, goal, on_plate(world, target.name))
