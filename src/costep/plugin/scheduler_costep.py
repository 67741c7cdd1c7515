"""A1's learning rates inside LeRobot's trainer: one factor per parameter group.

LeRobot builds its schedulers from registered dataclasses.  The curve is that of
``costep.train.optim``, so runs of ``lerobot-train`` and ``costep train`` follow the same rates;
here it is a factor of each group's own rate, which LambdaLR multiplies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from lerobot.optim.schedulers import LRSchedulerConfig
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from costep.config import Train


@LRSchedulerConfig.register_subclass("costep_warmup_cosine")
@dataclass
class CostepSchedulerConfig(LRSchedulerConfig):
    """Warm-up, a backbone frozen for the first steps, cosine to a tenth; fields as in ``Train``."""

    num_warmup_steps: int | None = 1000
    freeze_steps: int = 0
    own_ramp: bool = False
    recipe: Literal["ours", "upstream"] = "ours"

    def build(self, optimizer: Optimizer, num_training_steps: int) -> LambdaLR:
        from costep.train.optim import schedules

        factors = schedules(
            Train(
                lr_backbone=1.0,
                lr_head=1.0,
                warmup=self.num_warmup_steps or 0,
                freeze_steps=self.freeze_steps,
                own_ramp=self.own_ramp,
                recipe=self.recipe,
            ),
            num_training_steps,
        )
        names = [group["name"].split("/")[0] for group in optimizer.param_groups]
        return LambdaLR(optimizer, [_plain(factors[name]) for name in names])


def _plain(curve: Callable[[int], float]) -> Callable[[int], float]:
    """A function: LambdaLR would store an object's attributes, and a longer resumed run keep the
    old length."""
    return lambda step: curve(step)
