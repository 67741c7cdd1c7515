"""Stack one block on another; a third block is in the way."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, pick_and_place
from costep.sim.desk.objects import add_block
from costep.sim.desk.tasks.base import Task, left_alone, place_blocks, scatter
from costep.sim.desk.world import World, shifted

EDGE = 0.04


class Stack(Task):
    id = "stack"
    max_steps = 80

    def build(self, spec: mujoco.MjSpec) -> None:
        self.blocks = [add_block(spec, f"block{i}") for i in range(3)]

    def reset(self, world: World, rng: np.random.Generator) -> str:
        spots = scatter(rng, 3, (0.36, -0.16), (0.62, 0.16), apart=0.11)
        colours = place_blocks(world, rng, self.blocks, spots)
        return f"stack the {colours[0]} block on the {colours[1]} block"

    def stacked(self, world: World) -> bool:
        """The first block's centre is one edge above the second's, and over it."""
        offset = world.position(self.blocks[0].name) - world.position(self.blocks[1].name)
        return bool(np.linalg.norm(offset[:2]) < 0.6 * EDGE and abs(offset[2] - EDGE) < 0.015)

    def success(self, world: World) -> bool:
        return self.stacked(world) and left_alone(world, self.blocks[0])

    def plan(self, world: World) -> Move:
        top, bottom = self.blocks[:2]
        goal = shifted(world.position(bottom.name), 0, 0, EDGE + 0.002)
        return pick_and_place(world, top, goal, self.stacked(world), within=0.006)
