"""The frame cache: a LeRobotDataset decoded once into plain arrays, for training at memory speed without LeRobot.

uint8 memory maps per camera at the policy's pixel size, split into files of at most ``shard_mb`` MiB; float32 arrays of
state, actions and executed actions; ``cache.json`` with a SHA-256 of every file, the fingerprint of the source, the
episode table, the held-out split and the statistics, which are those of the training episodes only.
Building goes to ``<path>.partial``, resumes per video file and ends with one rename.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costep.data.contract import Contract, measure
from costep.data.images import to_pixels
from costep.data.lerobot_files import DatasetFiles, decode, sha256
from costep.data.split import split_episodes
from costep.data.write import write_json

FORMAT_VERSION = 1
COLUMNS = {  # cache array -> column of the data set
    "state": "observation.state",
    "action": "action",
    "executed": "executed_action",
    "episode": "episode_index",
    "frame": "frame_index",
    "task": "task_index",
    "stage": "stage",
}
Progress = Callable[[str, int, int], None]  # camera, frames done, frames in total


class CacheError(ValueError):
    """The cache on disk is incomplete, damaged or made from something else; the message names the remedy."""


@dataclass(frozen=True)
class FrameCache:
    """An opened cache.  N frames of E episodes in row order; arrays are read-only memory maps.

    state (N, S), action (N, A), executed (N, A) float32 in the contract's units; episode, frame, task, stage (N,) int64.
    episodes: E dicts with start, stop (rows), task, instruction, seed, success, split.
    """

    path: Path
    manifest: dict[str, Any]
    shards: dict[str, tuple[np.ndarray, ...]]
    state: np.ndarray
    action: np.ndarray
    executed: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    task: np.ndarray
    stage: np.ndarray

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> FrameCache:
        """Open and, unless told otherwise, check every file against its recorded SHA-256."""
        path = Path(path)
        if not (path / "cache.json").exists():
            raise CacheError(f"no frame cache at {path} (cache.json is missing); make one with build_cache")
        manifest = json.loads((path / "cache.json").read_text())
        if manifest["format_version"] != FORMAT_VERSION:
            raise CacheError(f"{path} has format {manifest['format_version']}, expected {FORMAT_VERSION}; rebuild it")
        if verify:
            _verify(path, manifest["files"])
        arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        shards = {c: tuple(np.load(path / f, mmap_mode="r") for f in manifest["shards"][c]) for c in manifest["cameras"]}
        return cls(path, manifest, shards, **arrays)

    def __len__(self) -> int:
        return len(self.state)

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.manifest["cameras"])

    @property
    def pixels(self) -> int:
        return self.manifest["pixels"]

    @property
    def episodes(self) -> list[dict[str, Any]]:
        return self.manifest["episodes"]

    @property
    def instructions(self) -> list[str]:
        """Sentence of each task index."""
        return self.manifest["tasks"]

    def contract(self) -> Contract:
        """The data set's contract with the statistics of this cache's training episodes."""
        return Contract.from_dict(self.manifest["contract"], f"{self.path}/cache.json")

    def images(self, camera: str, rows: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 frames of arbitrary rows, one fancy index per shard touched."""
        shards = self.shards[camera]
        size, rows = len(shards[0]), np.asarray(rows)
        owner, local = rows // size, rows % size
        if len(touched := np.unique(owner)) == 1:
            return shards[touched[0]][local]
        out = np.empty((len(rows), *shards[0].shape[1:]), np.uint8)
        for shard in touched:
            mine = owner == shard
            out[mine] = shards[shard][local[mine]]
        return out


def build_cache(
    dataset: str | os.PathLike[str],
    path: str | os.PathLike[str],
    contract: Contract | None = None,
    *,
    pixels: int,
    heldout: float = 0.05,
    seed: int = 0,
    shard_mb: int = 50,
    progress: Progress | None = None,
) -> FrameCache:
    """Decode ``dataset`` (a finished LeRobotDataset v3.0) into a cache at ``path``; an equal cache is reused.

    contract: default, the one the data set carries.  heldout: share of the episodes of each task kept for calibration.
    """
    source, path = DatasetFiles(Path(dataset)), Path(path)
    contract = contract or _contract_of(source)
    settings = {
        "source": source.fingerprint(),
        "declared": dataclasses.replace(contract, action_stats=None, state_stats=None).sha256(),
        "pixels": pixels,
        "heldout": heldout,
        "seed": seed,
        "shard_mb": shard_mb,
    }
    if path.exists():
        return _reuse(path, settings)
    partial = path.with_name(path.name + ".partial")
    done = _start(partial, settings)
    manifest = _write_tables(source, contract, partial, settings)
    manifest["shards"] = {c: _decode_camera(source, contract, c, partial, done, settings, progress)
                          for c in contract.cameras}
    (partial / "building.json").unlink()
    manifest["files"] = {p.name: sha256(p) for p in sorted(partial.glob("*.npy"))}
    write_json(partial / "cache.json", manifest)
    os.replace(partial, path)
    return FrameCache.open(path, verify=False)


def shard_rows(pixels: int, shard_mb: int) -> int:
    return max(1, (shard_mb * 2**20 - 128) // (pixels * pixels * 3))  # 128 bytes: the .npy header


def _contract_of(source: DatasetFiles) -> Contract:
    if "contract" not in source.sidecar:
        raise CacheError(f"{source.root} carries no data contract; pass one to build_cache")
    return Contract.from_dict(source.sidecar["contract"], str(source.root))


def _reuse(path: Path, settings: dict[str, Any]) -> FrameCache:
    cache = FrameCache.open(path)
    differing = [f"{k}: {cache.manifest['settings'].get(k)} != {v}" for k, v in settings.items()
                 if cache.manifest["settings"].get(k) != v]
    if differing:
        raise CacheError(f"{path} was built from something else ({'; '.join(differing)}); delete it or use another path")
    return cache


def _start(partial: Path, settings: dict[str, Any]) -> set[str]:
    """Video files already decoded by an interrupted build with the same settings."""
    journal = partial / "building.json"
    if journal.exists() and (state := json.loads(journal.read_text()))["settings"] == settings:
        return set(state["done"])
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    write_json(journal, {"settings": settings, "done": []})
    return set()


def _write_tables(source: DatasetFiles, contract: Contract, partial: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The numeric arrays, the episode table with its split, and statistics of the training episodes."""
    arrays = _numeric(source)
    table, records = source.episodes, source.sidecar.get("episodes", [])
    tasks = [arrays["task"][start] for start in table["dataset_from_index"]]
    held = set(split_episodes(tasks, settings["heldout"], settings["seed"])[1])
    episodes = [
        {
            "start": table["dataset_from_index"][i],
            "stop": table["dataset_to_index"][i],
            "task": records[i]["task"] if records else source.tasks[task],
            "instruction": source.tasks[task],
            "seed": records[i]["seed"] if records else None,
            "success": records[i]["success"] if records else None,
            "split": "heldout" if i in held else "train",
        }
        for i, task in enumerate(tasks)
    ]
    train = np.isin(arrays["episode"], [i for i in range(len(tasks)) if i not in held])
    filled = contract.with_statistics(measure(arrays["action"][train]), measure(arrays["state"][train]))
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
    return {
        "format_version": FORMAT_VERSION,
        "settings": settings,
        "pixels": settings["pixels"],
        "cameras": list(contract.cameras),
        "frames": len(arrays["state"]),
        "tasks": source.tasks,
        "stages": source.sidecar.get("stages", []),
        "episodes": episodes,
        "contract": filled.to_dict(),
    }


def _numeric(source: DatasetFiles) -> dict[str, np.ndarray]:
    """All cache arrays; data sets of others have no executed actions (the action was executed) and no stages."""
    present = {name: column for name, column in COLUMNS.items() if column in source.info["features"]}
    columns = source.columns(list(present.values()))
    arrays = {name: columns[column] for name, column in present.items()}
    arrays.setdefault("executed", arrays["action"])
    arrays.setdefault("stage", np.zeros(len(arrays["action"]), np.int64))
    real = ("state", "action", "executed")
    return {n: np.ascontiguousarray(a, np.float32 if n in real else np.int64) for n, a in arrays.items()}


def _decode_camera(
    source: DatasetFiles,
    contract: Contract,
    camera: str,
    partial: Path,
    done: set[str],
    settings: dict[str, Any],
    progress: Progress | None,
) -> list[str]:
    """Fill the shards of one camera, one video file after the other, journalling each; returns the file names."""
    spec = next(i for i in contract.images if i.name == camera)
    total, pixels = source.info["total_frames"], settings["pixels"]
    size = shard_rows(pixels, settings["shard_mb"])
    names = [f"images.{camera}.{k:03d}.npy" for k in range(-(-total // size))]
    shards = [_shard(partial / n, min(size, total - k * size), pixels) for k, n in enumerate(names)]
    count = 0
    for video in source.videos(camera):
        key = f"{camera}/{video.path.name}/{video.path.parent.name}"
        if key not in done:
            for rows, frames in decode(video, source.info["fps"]):
                _store(shards, size, rows, to_pixels(frames, pixels, spec).permute(0, 2, 3, 1).numpy())
                count += len(rows)
                if progress:
                    progress(camera, count, total)
            for shard in shards:
                shard.flush()
            done.add(key)
            write_json(partial / "building.json", {"settings": settings, "done": sorted(done)})
        else:
            count += sum(length for _, _, length in video.episodes)
    return names


def _shard(path: Path, rows: int, pixels: int) -> np.memmap:
    if path.exists():
        return np.load(path, mmap_mode="r+")
    return np.lib.format.open_memmap(path, "w+", np.uint8, (rows, pixels, pixels, 3))


def _store(shards: Sequence[np.ndarray], size: int, rows: np.ndarray, frames: np.ndarray) -> None:
    for shard in np.unique(rows // size):
        mine = rows // size == shard
        shards[shard][rows[mine] % size] = frames[mine]


def _verify(path: Path, files: dict[str, str]) -> None:
    bad = [n for n, digest in files.items() if not (path / n).exists() or sha256(path / n) != digest]
    if bad:
        raise CacheError(f"{path}: {', '.join(bad)} missing or not as written (SHA-256); delete the folder and rebuild it")
