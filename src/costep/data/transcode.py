"""Building a frame cache: each video file is decoded once, front to back, into uint8 memory maps.

Work goes to ``<path>.partial``, resumes per video file and ends with one rename.  Statistics are
measured on the training episodes only, in the units of the contract.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costep.data.cache import COLUMNS, FORMAT_VERSION, CacheError, FrameCache
from costep.data.contract import Contract, measure
from costep.data.images import to_pixels
from costep.data.journal import write_json
from costep.data.lerobot_files import DatasetFiles, VideoFile, decode, sha256
from costep.data.split import split_episodes

Progress = Callable[[str, int, int], None]  # camera, frames done, frames in total
NPY_HEADER = 128  # bytes


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
    """Decode ``dataset``, a finished LeRobotDataset v3.0; an equal cache at ``path`` is reused.

    contract: default, the one the data set carries.  pixels: side of the stored images.  heldout:
    share of the episodes of each task that is kept for calibration.
    """
    source, path = DatasetFiles(Path(dataset)), Path(path)
    contract = contract or _contract_of(source)
    bare = dataclasses.replace(contract, action_stats=None, state_stats=None)
    settings = {
        "source": source.fingerprint(),
        "contract": bare.sha256(),
        "pixels": pixels,
        "heldout": heldout,
        "seed": seed,
        "shard_mb": shard_mb,
    }
    if path.exists():
        return _reuse(path, settings)
    partial = path.with_name(path.name + ".partial")
    manifest = _Build(source, contract, partial, settings, progress).run()
    write_json(partial / "cache.json", manifest)
    os.replace(partial, path)
    return FrameCache.open(path, verify=False)


@dataclass(frozen=True)
class _Build:
    """One build in ``partial``, whose ``building.json`` lists the video files already decoded."""

    source: DatasetFiles
    contract: Contract
    partial: Path
    settings: dict[str, Any]
    progress: Progress | None

    def run(self) -> dict[str, Any]:
        """Write every array and return the manifest."""
        done = self._start()
        manifest = self._tables()
        manifest["shards"] = {c: self._camera(c, done) for c in self.contract.cameras}
        (self.partial / "building.json").unlink()
        manifest["files"] = {p.name: sha256(p) for p in sorted(self.partial.glob("*.npy"))}
        return manifest

    def _start(self) -> set[str]:
        """Videos decoded by an interrupted build with the same settings; a clean folder
        otherwise."""
        journal = self.partial / "building.json"
        if (
            journal.exists()
            and (state := json.loads(journal.read_text()))["settings"] == self.settings
        ):
            return set(state["done"])
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        self._journal(set())
        return set()

    def _journal(self, done: set[str]) -> None:
        state = {"settings": self.settings, "done": sorted(done)}
        write_json(self.partial / "building.json", state)

    def _tables(self) -> dict[str, Any]:
        """The numeric arrays; the manifest with episodes, split and statistics."""
        arrays = _numeric(self.source)
        episodes = self._episodes(arrays["task"])
        training = [i for i, e in enumerate(episodes) if e["split"] == "train"]
        train = np.isin(arrays["episode"], training)
        measured = self.contract.with_statistics(
            action=measure(arrays["action"][train]), state=measure(arrays["state"][train])
        )
        for name, array in arrays.items():
            np.save(self.partial / f"{name}.npy", array)
        return {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "pixels": self.settings["pixels"],
            "cameras": list(self.contract.cameras),
            "frames": len(train),
            "tasks": self.source.tasks,
            "stages": self.source.sidecar.get("stages", []),
            "episodes": episodes,
            "contract": measured.to_dict(),
        }

    def _episodes(self, task: np.ndarray) -> list[dict[str, Any]]:
        table, tasks = self.source.episodes, self.source.tasks
        first = [int(task[start]) for start in table["dataset_from_index"]]
        heldout = split_episodes(first, self.settings["heldout"], self.settings["seed"])[1]
        episodes = [
            {
                "start": table["dataset_from_index"][i],
                "stop": table["dataset_to_index"][i],
                "task": tasks[index],
                "instruction": tasks[index],
                "seed": None,
                "success": None,
                "split": "heldout" if i in heldout else "train",
            }
            for i, index in enumerate(first)
        ]
        for episode, record in zip(episodes, self.source.sidecar.get("episodes", [])):
            episode.update({key: record[key] for key in ("task", "seed", "success")})
        return episodes

    def _camera(self, camera: str, done: set[str]) -> list[str]:
        """Fill the shards of one camera, journalling every video file; returns their names."""
        total, pixels = self.source.info["total_frames"], self.settings["pixels"]
        size = shard_rows(pixels, self.settings["shard_mb"])
        names = [f"images.{camera}.{k:03d}.npy" for k in range(-(-total // size))]
        shards = [
            _shard(self.partial / name, min(size, total - k * size), pixels)
            for k, name in enumerate(names)
        ]
        seen = 0
        for video in self.source.videos(camera):
            key = video.path.relative_to(self.source.root).as_posix()
            if key not in done:
                self._video(video, shards, seen)
                done.add(key)
                self._journal(done)
            seen += video.frames
        return names

    def _video(self, video: VideoFile, shards: list[np.memmap], seen: int) -> None:
        spec = next(image for image in self.contract.images if image.name == video.camera)
        for rows, frames in decode(video, self.source.info["fps"]):
            small = to_pixels(frames, self.settings["pixels"], spec)
            _store(shards, rows, small.permute(0, 2, 3, 1).numpy())
            seen += len(rows)
            if self.progress:
                self.progress(video.camera, seen, self.source.info["total_frames"])
        for shard in shards:
            shard.flush()


def shard_rows(pixels: int, shard_mb: int) -> int:
    """Frames per file."""
    return max(1, (shard_mb * 2**20 - NPY_HEADER) // (pixels * pixels * 3))


def _contract_of(source: DatasetFiles) -> Contract:
    if "contract" not in source.sidecar:
        raise CacheError(f"{source.root} carries no data contract; pass one to build_cache")
    return Contract.from_dict(source.sidecar["contract"], str(source.root))


def _reuse(path: Path, settings: dict[str, Any]) -> FrameCache:
    cache = FrameCache.open(path)
    found = cache.manifest["settings"]
    differing = [
        f"{k} was {found.get(k)}, now {v}" for k, v in settings.items() if found.get(k) != v
    ]
    if differing:
        raise CacheError(
            f"{path} was built from something else ({'; '.join(differing)}); "
            "delete it or name another folder"
        )
    return cache


def _numeric(source: DatasetFiles) -> dict[str, np.ndarray]:
    """All cache arrays; others' data sets have no stages, and what they label was executed."""
    known = source.info["features"]
    present = {name: column for name, column in COLUMNS.items() if column in known}
    columns = source.columns(list(present.values()))
    arrays = {name: columns[column] for name, column in present.items()}
    arrays.setdefault("executed", arrays["action"])
    arrays.setdefault("stage", np.zeros(len(arrays["action"]), np.int64))
    dtypes = dict.fromkeys(("state", "action", "executed"), np.float32)
    return {n: np.ascontiguousarray(a, dtypes.get(n, np.int64)) for n, a in arrays.items()}


def _shard(path: Path, rows: int, pixels: int) -> np.memmap:
    if path.exists():
        return np.load(path, mmap_mode="r+")
    return np.lib.format.open_memmap(path, "w+", np.uint8, (rows, pixels, pixels, 3))


def _store(shards: list[np.memmap], rows: np.ndarray, frames: np.ndarray) -> None:
    size = len(shards[0])
    for shard in np.unique(rows // size):
        mine = rows // size == shard
        shards[shard][rows[mine] % size] = frames[mine]
