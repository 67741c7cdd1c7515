"""costep: vision-language-action policies whose action head climbs beside the backbone, layer by
layer.

The public names are imported on first use, so that ``import costep`` costs milliseconds.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "PolicyConfig": "costep.config",
    "preset": "costep.presets",
    "Observation": "costep.types",
    "Policy": "costep.policy",
    "Agent": "costep.runtime.agent",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(
        f"module 'costep' has no attribute {name!r}; it offers {', '.join(__all__)}"
    )
