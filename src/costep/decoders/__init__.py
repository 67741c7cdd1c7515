"""Level 2: what turns a head's features into actions, and what it is trained with."""

from __future__ import annotations

from costep.config import PolicyConfig
from costep.decoders.base import Decoder, Noise


def build(config: PolicyConfig, features_width: int) -> Decoder:
    if config.decoder.kind == "flow":
        from costep.decoders.flow import FlowDecoder

        return FlowDecoder(config, features_width)
    from costep.decoders.regression import RegressionDecoder

    return RegressionDecoder(config, features_width)


__all__ = ["Decoder", "Noise", "build"]
