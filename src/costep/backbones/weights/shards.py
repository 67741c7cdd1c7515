"""Weights from a local Hugging Face folder: one safetensors file or many with an index, loaded by
name, strictly.

    tensors = read_shards(resolve("folder or owner/name"))    # headers only: name -> Entry
    load_into(module, tensors, rename, dtype=torch.bfloat16)   # one tensor in memory at a time

Nothing is filled in silently: a shard that is not there, a name without a home, a parameter without
a value and a shape that differs each raise :class:`WeightsError`, which lists all of them at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHOWN = 12  # names per kind of problem in an error
Rename = Callable[[str], str | None]


class WeightsError(ValueError):
    """The weights in a folder are not the ones that the module needs."""


@dataclass(frozen=True)
class Entry:
    """One tensor on disk; ``load`` reads it.  dtype: as safetensors spells it (F32, BF16, ...)."""

    name: str
    file: Path
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor]

    def load(self) -> Tensor:
        return self.read()


def resolve(source: str | Path) -> Path:
    """A local folder as it is; otherwise the snapshot of the hub repository ``owner/name``, which
    is downloaded once."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or str(source).count("/") != 1:
        raise WeightsError(
            f"no folder {folder}; give the folder of a checkpoint, or a hub id 'owner/name'"
        )
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source), allow_patterns=["*.json", "*.txt", "*.safetensors"]))


def read_shards(folder: str | Path) -> dict[str, Entry]:
    """Name -> entry of every tensor in ``folder``; only headers are read.

    Raises WeightsError naming each shard of the index that is missing, each file that is damaged,
    and each tensor that the index promises but its shard does not hold.
    """
    folder = Path(folder)
    promised = _promised(folder)
    absent = {f: n for f, n in Counter(promised.values()).items() if not (folder / f).is_file()}
    if absent:
        listed = ", ".join(f"{file} ({n} tensors)" for file, n in sorted(absent.items()))
        raise WeightsError(
            f"{folder}: {len(absent)} of {len(set(promised.values()))} shards are missing: "
            f"{listed}. Copy them into the folder"
        )
    files = sorted(set(promised.values())) or [SINGLE]
    entries = {e.name: e for file in files for e in _header(folder / file)}
    lost = [name for name, file in promised.items() if name not in entries]
    stray = [name for name in entries if promised and name not in promised]
    _complain(folder, {f"in {INDEX}, but in no shard": lost, f"not in {INDEX}": stray})
    return entries


def load_into(
    module: nn.Module,
    tensors: Mapping[str, Entry | Tensor],
    rename: Rename | Mapping[str, str] = lambda name: name,
    *,
    dtype: torch.dtype | None = None,
    allow_missing: Iterable[str] = (),
    tied: Mapping[str, str] | None = None,
) -> None:
    """Copy ``tensors`` into the parameters and persistent buffers of ``module``.

    rename: foreign name -> ours; None drops a tensor on purpose (a mapping renames what it lists
    and keeps the rest).  dtype: floating tensors become this; None keeps the module's.
    allow_missing: patterns (``fnmatch``) of our names that may keep their values.  tied: foreign
    copies of another foreign tensor, {copy: original}; a copy that is stored must equal its
    original and is then dropped.  Modules on the meta device take the tensors' device, others keep
    theirs.

    Raises WeightsError with every missing, unexpected and mis-shaped name before anything is
    written, so a failed load leaves the module as it was.
    """
    tensors = _untie(tensors, tied or {})
    ours, slots = _plan(tensors, rename), _slots(module)
    _complain(type(module).__name__, _compare(tensors, ours, slots, tuple(allow_missing)))
    for name, foreign in ours.items():
        _write(module, slots[name], _value(tensors[foreign]), dtype)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; WeightsError when it is not there or cannot be read."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise WeightsError(
            f"{path} is missing; the folder has {_listing(path.parent)}. Copy the whole repository"
        ) from None
    except ValueError as problem:
        raise WeightsError(f"{path} is not JSON ({problem}); copy it again") from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


# ---- reading -------------------------------------------------------------------------------------
def _promised(folder: Path) -> dict[str, str]:
    """Name -> file as the index has it, empty for a single file."""
    if (folder / INDEX).is_file():
        promised = read_json(folder / INDEX).get("weight_map")
        if not isinstance(promised, dict) or not promised:
            raise WeightsError(f"{folder / INDEX} has no 'weight_map'; copy it again")
        return promised
    if not (folder / SINGLE).is_file():
        raise WeightsError(
            f"{folder}: expected {SINGLE} or {INDEX}, found {_listing(folder)}. "
            "Give the folder that holds the weights; .bin and .pt files are not read here"
        )
    return {}


def _header(file: Path) -> list[Entry]:
    try:
        handle = safe_open(file, framework="pt")
        names = list(handle.keys())
    except (SafetensorError, OSError) as problem:
        raise WeightsError(f"{file} cannot be read ({problem}); copy it again") from None
    return [_entry(handle, name, file) for name in names]


def _entry(handle: Any, name: str, file: Path) -> Entry:
    part = handle.get_slice(name)
    read = lambda: handle.get_tensor(name)  # noqa: E731
    return Entry(name, file, tuple(part.get_shape()), part.get_dtype(), read)


def _listing(folder: Path) -> list[str] | str:
    if not folder.is_dir():
        return "no such folder"
    return sorted(p.name for p in folder.iterdir())[:SHOWN] or "nothing"


# ---- matching ------------------------------------------------------------------------------------
def _untie(
    tensors: Mapping[str, Entry | Tensor], tied: Mapping[str, str]
) -> dict[str, Entry | Tensor]:
    kept = dict(tensors)
    for copy, original in tied.items():
        if copy not in kept:
            continue
        if original not in kept:
            raise WeightsError(f"{copy} is tied to {original}, which is missing; found {copy} only")
        if not torch.equal(_value(kept[copy]), _value(kept[original])):
            raise WeightsError(
                f"{copy} differs from {original}, although the model ties them: these weights "
                "belong to an untied model and cannot be loaded here"
            )
        del kept[copy]
    return kept


def _plan(
    tensors: Mapping[str, Entry | Tensor], rename: Rename | Mapping[str, str]
) -> dict[str, str]:
    """Our name -> foreign name."""
    to = rename if callable(rename) else lambda name: rename.get(name, name)
    plan: dict[str, str] = {}
    for foreign in tensors:
        name = to(foreign)
        if name in plan:
            raise WeightsError(f"{plan[name]} and {foreign} both become {name}")
        if name is not None:
            plan[name] = foreign
    return plan


def _compare(
    tensors: Mapping[str, Entry | Tensor],
    ours: Mapping[str, str],
    slots: Mapping[str, Tensor],
    excused: tuple[str, ...],
) -> dict[str, list[str]]:
    """Kind of problem -> descriptions of the names that have it."""
    given = {id(slots[name]) for name in ours if name in slots}
    missing = [
        f"{name} {tuple(slot.shape)}"
        for name, slot in slots.items()
        if id(slot) not in given and not any(fnmatch(name, pattern) for pattern in excused)
    ]
    unexpected, shapes, kinds = [], [], []
    for name, foreign in ours.items():
        got, slot = tensors[foreign], slots.get(name)
        shape = tuple(got.shape)
        if slot is None:
            label = foreign if name == foreign else f"{foreign} (as {name})"
            unexpected.append(f"{label} {shape}")
        elif tuple(slot.shape) != shape:
            shapes.append(f"{name}: expected {tuple(slot.shape)}, got {shape}")
        elif slot.is_floating_point() != _floating(got):
            kinds.append(f"{name}: expected {slot.dtype}, got {got.dtype}")
    return {
        "missing": missing,
        "unexpected": unexpected,
        "of another shape": shapes,
        "of another kind": kinds,
    }


def _slots(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer by name; a shared one under all of its names."""
    state = module.state_dict(keep_vars=True)
    return {name: slot for name, slot in state.items() if isinstance(slot, Tensor)}


def _value(source: Entry | Tensor) -> Tensor:
    return source.load() if isinstance(source, Entry) else source


def _floating(source: Entry | Tensor) -> bool:
    if isinstance(source, Entry):
        return source.dtype.startswith(("F", "BF"))
    return source.is_floating_point()


def _complain(where: object, problems: Mapping[str, list[str]]) -> None:
    """One error with every problem, or nothing."""
    parts = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if parts:
        raise WeightsError(
            f"{where}: " + "; ".join(parts) + ". Load the weights of this very model, or "
            "configure the model that these weights belong to"
        )


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(sorted(names)[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


# ---- writing -------------------------------------------------------------------------------------
def _write(module: nn.Module, slot: Tensor, value: Tensor, dtype: torch.dtype | None) -> None:
    kind = (dtype or slot.dtype) if slot.is_floating_point() else slot.dtype
    if not slot.is_meta:
        slot.data = value.to(slot.device, kind, copy=True)
        return
    value = value.to(kind, copy=True)
    if isinstance(slot, nn.Parameter):
        value = nn.Parameter(value, requires_grad=slot.requires_grad)
    for owner in module.modules():  # a shared slot has several owners
        for table in (owner._parameters, owner._buffers):
            for leaf, held in table.items():
                if held is slot:
                    table[leaf] = value  # type: ignore[assignment]
