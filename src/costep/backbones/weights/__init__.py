"""Foreign checkpoints: the only place where another library's parameter names are known."""

from costep.backbones.weights.shards import (
    Entry,
    WeightsError,
    load_into,
    read_json,
    read_shards,
    resolve,
)

__all__ = ["Entry", "WeightsError", "load_into", "read_json", "read_shards", "resolve"]
