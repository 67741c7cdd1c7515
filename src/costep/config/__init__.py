"""The configuration: every ablation of the three papers is a field here, and its default is the
paper's choice.

Layer bases: ``Head.gate.layers`` are 1-based head layers, ``Head.vision_layer`` is a 1-based
backbone layer, exits, probe and force are 0-based backbone layers.  All classes are frozen; use
``dataclasses.replace``.
"""

from costep.config.parts import (
    Backbone,
    BackboneSizes,
    BeliefConfig,
    BeliefGate,
    Decoder,
    Exits,
    Flow,
    Focus,
    Head,
    Lora,
    Tokens,
    Train,
)
from costep.config.policy import PolicyConfig
from costep.config.rules import LEGAL

__all__ = [
    "LEGAL",
    "Backbone",
    "BackboneSizes",
    "BeliefConfig",
    "BeliefGate",
    "Decoder",
    "Exits",
    "Flow",
    "Focus",
    "Head",
    "Lora",
    "PolicyConfig",
    "Tokens",
    "Train",
]
