"""A Hugging Face weights folder: safetensors shards and their index, each file written atomically,
the index last, so that a folder without an index is an unfinished one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from costep.backbones.weights.shards import INDEX


def write_shards(folder: Path, tensors: Mapping[str, Tensor], limit: int) -> list[Path]:
    """Write ``tensors`` in order, at most ``limit`` bytes to a file (one tensor at least)."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = _split(tensors, limit)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        part = folder / f".{name}.partial"
        stored = {k: w.detach().cpu().contiguous() for k, w in shard.items()}
        save_file(stored, part, {"format": "pt"})
        os.replace(part, folder / name)
    _index(folder, dict(zip(names, shards, strict=True)))
    return [folder / name for name in names]


def _split(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    room = limit
    for name, tensor in tensors.items():
        if shards[-1] and tensor.nbytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = tensor
        room -= tensor.nbytes
    return shards


def _index(folder: Path, shards: Mapping[str, Mapping[str, Tensor]]) -> None:
    size = sum(w.nbytes for shard in shards.values() for w in shard.values())
    where = {name: file for file, shard in shards.items() for name in shard}
    part = folder / f".{INDEX}.partial"
    index = {"metadata": {"total_size": size}, "weight_map": where}
    part.write_text(json.dumps(index, indent=2) + "\n")
    os.replace(part, folder / INDEX)
