"""Level 2: what turns a head's features into actions, and what it is trained with."""

from __future__ import annotations

import torch

from costep.config import PolicyConfig
from costep.decoders.base import Decoder, Noise


def build(config: PolicyConfig, features_width: int) -> Decoder:
    if config.head.kind == "fast":
        from costep.decoders.fast import TokenDecoder

        return TokenDecoder(config)
    if config.decoder.kind == "flow":
        from costep.decoders.flow import FlowDecoder

        return FlowDecoder(config, features_width)
    from costep.decoders.regression import RegressionDecoder

    decoder = RegressionDecoder(config, features_width)
    return decoder.to(torch.bfloat16) if config.head.dtype == "bf16" else decoder


__all__ = ["Decoder", "Noise", "build"]
