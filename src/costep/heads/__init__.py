"""Level 2: action heads that climb beside a backbone, one ``step`` per tap."""

from __future__ import annotations

from costep.config import PolicyConfig
from costep.heads.base import Head, HeadState
from costep.types import BackboneInfo


def build(config: PolicyConfig, info: BackboneInfo) -> Head:
    """The head that ``config.head.kind`` names, sized for a backbone."""
    match config.head.kind:
        case "step" if config.upstream_compat:
            from costep.heads.upstream import ReleasedTower

            return ReleasedTower(config, info)
        case "step":
            from costep.heads.tower import Tower

            return Tower(config, info)
        case "queries":
            from costep.heads.queries import QueryHead

            return QueryHead(config, info)
        case "expert":
            from costep.heads.expert import FlowExpert

            return FlowExpert(config, info)
        case "pi":
            from costep.heads.pi import PiExpert

            return PiExpert(config, info)
        case "gr00t":
            from costep.heads.gr00t import DiffusionHead

            return DiffusionHead(config, info)
        case "fast":
            from costep.heads.fast import TokenHead

            return TokenHead(config, info)
        case kind:  # the configuration checks kinds; this is for a new one without a head
            raise ValueError(f"head.kind={kind!r} has no head")


__all__ = ["Head", "HeadState", "build"]
