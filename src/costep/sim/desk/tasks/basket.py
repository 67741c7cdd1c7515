"""Put two named objects of different shapes in the basket, in any order; a third stays out."""

from __future__ import annotations

import mujoco
import numpy as np

from costep.sim.desk.expert import Move, finished, pick_and_place
from costep.sim.desk.objects import BASKET_HALF, Thing, add_ball, add_basket, add_block, add_can
from costep.sim.desk.tasks.base import Task, left_alone, scatter
from costep.sim.desk.world import World, shifted

BESIDE = 0.034  # metres from the basket's middle to each object, along x: the fingers open along y
OUT_OF_SIGHT = (2.0, 0.0)  # behind the third-person camera


class Basket(Task):
    id = "basket"
    max_steps = 160

    def build(self, spec: mujoco.MjSpec) -> None:
        add_basket(spec)
        self.things: dict[str, Thing] = {
            "red can": add_can(spec, "can"),
            "blue box": add_block(spec, "box", (0.017, 0.022, 0.03)),
            "yellow ball": add_ball(spec, "ball"),
            "green block": add_block(spec, "block"),
        }

    def reset(self, world: World, rng: np.random.Generator) -> str:
        basket = rng.uniform((0.45, 0.09), (0.56, 0.14))
        world.fix("basket", basket)
        names = [str(name) for name in rng.permutation(list(self.things))]
        spots = scatter(rng, 3, (0.36, -0.18), (0.64, 0.10), apart=0.10, avoid=((basket, 0.165),))
        for name, spot in zip(names, [*spots, OUT_OF_SIGHT], strict=True):
            world.put(self.things[name], spot, rng.uniform(-0.35, 0.35))
            world.paint(self.things[name].name, name.split()[0])
        self.targets = [self.things[name] for name in names[:2]]
        self.others = [self.things[name] for name in names[2:]]
        return f"put both the {names[0]} and the {names[1]} in the basket"

    def inside(self, world: World, thing: Thing) -> bool:
        offset = np.abs(world.position(thing.name) - world.position("basket"))
        return bool(offset[:2].max() < BASKET_HALF - 0.008 and offset[2] < 0.075)

    def success(self, world: World) -> bool:
        done = all(self.inside(world, thing) and left_alone(world, thing) for thing in self.targets)
        return done and not any(self.inside(world, thing) for thing in self.others)

    def plan(self, world: World) -> Move:
        """The object named first goes first: one order is easier to imitate than two."""
        first, second = self.targets
        basket = world.position("basket")
        if not finished(world, first, self.inside(world, first)):
            return pick_and_place(
                world, first, shifted(basket, BESIDE, 0, 0.06), self.inside(world, first)
            )
        return pick_and_place(
            world, second, shifted(basket, -BESIDE, 0, 0.06), self.inside(world, second)
        )
