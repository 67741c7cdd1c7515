"""Level 2: action heads that climb beside a backbone, one ``step`` per tap."""

from __future__ import annotations

from costep.config import PolicyConfig
from costep.heads.base import Head, HeadState
from costep.types import BackboneInfo


def build(config: PolicyConfig, info: BackboneInfo) -> Head:
    """The head that ``config.head.kind`` names, sized for a backbone."""
    match config.head.kind:
        case "step":
            from costep.heads.tower import Tower

            return Tower(config, info)
        case "queries":
            from costep.heads.queries import QueryHead

            return QueryHead(config, info)
        case "expert":
            from costep.heads.expert import FlowExpert

            return FlowExpert(config, info)
        case kind:
            raise ValueError(
                f"head.kind={kind!r} is not available in this version; use step, queries or expert"
            )


__all__ = ["Head", "HeadState", "build"]
