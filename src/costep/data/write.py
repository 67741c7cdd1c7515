"""Writing demonstrations as a LeRobotDataset v3.0, so that a half-written one can never be loaded.

Everything goes to ``<root>.partial``; ``finalise`` renames it to ``<root>`` in one step.  Every ``commit_every``
episodes the data set is closed and its state journalled: LeRobot never touches a closed file again, so after a crash
the writer deletes what came after the journal and goes on from there.  At most ``commit_every - 1`` episodes are lost.

Video is H.264 with a keyframe every second frame, encoded while frames arrive: the fastest of the encodings measured.
Beside LeRobot's keys there are ``executed_action`` (what was sent to the robot; the belief's history is made of it) and
``stage`` (index into the stage names); seeds and outcomes of episodes are in ``meta/costep.json``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from costep.data.contract import Contract, compare
from costep.data.episode import EpisodeLike, check_episode

log = logging.getLogger(__name__)

SIDECAR = "meta/costep.json"
_REWRITTEN = ("meta/info.json", "meta/stats.json", "meta/tasks.parquet")  # LeRobot files that change at every episode
_ENDLESS = 1_000_000  # encoder queue in frames: LeRobot drops frames silently once its queue is full


class EpisodeWriter:
    """Appends episodes; a context manager that commits on the way out.  See the module for what survives a crash.

    records: one dict per kept episode (index, task, instruction, seed, length, success).
    notes: anything JSON that shall be committed together with the episodes (the collector keeps its attempts there).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        repo_id: str,
        contract: Contract,
        *,
        fps: int = 20,
        commit_every: int = 20,
        crf: int = 18,
        robot_type: str = "panda",
    ) -> None:
        if fps != contract.action.rate_hz:
            raise ValueError(f"fps is {fps}, contract {contract.name!r} runs at {contract.action.rate_hz} Hz; use that")
        self.root, self.repo_id, self.contract, self.fps = Path(root), repo_id, contract, fps
        if self.root.exists():
            raise FileExistsError(f"{self.root} is a finished data set; delete it or write to another folder")
        self.partial = self.root.with_name(self.root.name + ".partial")
        self.commit_every, self.crf, self.robot_type = commit_every, crf, robot_type
        self.records: list[dict[str, Any]] = []
        self.stages: list[str] = []
        self.notes: dict[str, Any] = {}
        self._dataset: Any = None
        self._broken = False
        self._committed = 0
        self._recover()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._broken:
            log.warning("writing was interrupted inside an episode; the next start resumes after episode %d",
                        self._committed)
        elif self.partial.exists():
            self.commit()

    def add(self, episode: EpisodeLike, task: str | None = None) -> int:
        """Append one episode and return its index.  A rejected episode leaves no trace."""
        if self._broken:
            raise RuntimeError(f"a previous episode failed half-way; open a new EpisodeWriter on {self.root} to go on")
        length = check_episode(episode, self.contract)
        dataset, index = self._open(), len(self.records)
        self._broken = True
        for frame in self._frames(episode, length):
            dataset.add_frame(frame)
        dataset.save_episode()
        self._broken = False
        self.records.append(
            {
                "index": index,
                "task": task or episode.instruction,
                "instruction": episode.instruction,
                "seed": int(episode.seed),
                "length": length,
                "success": bool(episode.success),
            }
        )
        if len(self.records) - self._committed >= self.commit_every:
            self.commit()
        return index

    def commit(self) -> None:
        """Close LeRobot's files and journal them; nothing before this point can be lost any more."""
        if self._dataset is not None:
            self._dataset.finalize()
            self._dataset = None
        self.partial.mkdir(parents=True, exist_ok=True)
        snapshot = f"journal-{len(self.records):06d}"
        for name in _REWRITTEN:
            if (self.partial / name).exists():
                (self.partial / snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.partial / name, self.partial / snapshot / name)
        journal = {"snapshot": snapshot, "files": self._files(), **self._sidecar()}
        write_json(self.partial / "journal.json", journal)
        for old in self.partial.glob("journal-*"):
            if old.name != snapshot:
                shutil.rmtree(old)
        self._committed = len(self.records)

    def finalise(self) -> Path:
        """Commit, add the sidecar files and rename ``<root>.partial`` to ``<root>``."""
        if not self.records:
            raise ValueError(f"no episodes were written to {self.root}; a data set needs at least one")
        self.commit()
        write_json(self.partial / SIDECAR, self._sidecar())
        self.contract.save(self.partial / "meta")
        shutil.rmtree(self.partial / f"journal-{len(self.records):06d}")
        (self.partial / "journal.json").unlink()
        os.replace(self.partial, self.root)
        return self.root

    def _sidecar(self) -> dict[str, Any]:
        return {
            "format_version": 1,
            "contract": self.contract.to_dict(),
            "stages": self.stages,
            "episodes": self.records,
            "notes": self.notes,
        }

    def _files(self) -> dict[str, int]:
        """Data, video and episode files with their sizes; these are never rewritten after a commit."""
        paths = [p for p in self.partial.rglob("*") if p.is_file() and "journal" not in str(p.relative_to(self.partial))]
        names = {p.relative_to(self.partial).as_posix(): p.stat().st_size for p in sorted(paths)}
        return {name: size for name, size in names.items() if name not in _REWRITTEN}

    def _recover(self) -> None:
        """Return ``<root>.partial`` to its last commit, or start afresh when there is none."""
        path = self.partial / "journal.json"
        if not path.exists():
            if self.partial.exists():
                shutil.rmtree(self.partial)
            return
        journal = json.loads(path.read_text())
        compare(Contract.from_dict(journal["contract"], str(path)), self.contract)
        for name in self._files().keys() - journal["files"].keys():
            (self.partial / name).unlink()
        _drop_empty_folders(self.partial)
        if (found := self._files()) != journal["files"]:
            changed = sorted(k for k in {**found, **journal["files"]} if found.get(k) != journal["files"].get(k))
            raise ValueError(f"{self.partial} no longer matches its journal ({changed}); delete it and start again")
        for name in _REWRITTEN:
            if (saved := self.partial / journal["snapshot"] / name).exists():
                shutil.copy2(saved, self.partial / name)
        self.records, self.stages, self.notes = journal["episodes"], journal["stages"], journal["notes"]
        self._committed = len(self.records)

    def _open(self) -> Any:
        if self._dataset is None:
            import datasets

            self._dataset = self._resume() if self.records else self._create()
            datasets.disable_progress_bars()  # one per episode; opening a data set switches them on again
        return self._dataset

    def _encoding(self) -> dict[str, Any]:
        import av
        from lerobot.configs import RGBEncoderConfig

        av.logging.set_libav_level(av.logging.ERROR)  # x264 prints a page per episode otherwise
        encoder = RGBEncoderConfig(vcodec="h264", g=2, crf=self.crf, preset="veryfast")
        return {
            "rgb_encoder": encoder,
            "streaming_encoding": True,
            "encoder_queue_maxsize": _ENDLESS,
            "encoder_threads": 1,
            "video_backend": "pyav",
        }

    def _create(self) -> Any:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        if self.partial.exists():  # LeRobot insists on making the folder; ours may hold notes of failed attempts only
            shutil.rmtree(self.partial)
        options = self._encoding()
        return LeRobotDataset.create(
            self.repo_id, self.fps, features(self.contract), self.partial, self.robot_type, **options
        )

    def _resume(self) -> Any:
        from lerobot.datasets.lerobot_dataset import LeRobotDataset

        return LeRobotDataset.resume(self.repo_id, self.partial, **self._encoding())

    def _frames(self, episode: EpisodeLike, length: int):
        self.stages += [s for s in dict.fromkeys(episode.stage) if s not in self.stages]
        stage = np.array([[self.stages.index(s)] for s in episode.stage], np.int64)
        columns = {
            "observation.state": np.asarray(episode.state, np.float32),
            "action": np.asarray(episode.action, np.float32),
            "executed_action": np.asarray(episode.executed, np.float32),
            "stage": stage,
        }
        columns |= {f"observation.images.{c}": (episode.images or {})[c] for c in self.contract.cameras}
        for t in range(length):
            yield {**{name: column[t] for name, column in columns.items()}, "task": episode.instruction}


def _drop_empty_folders(root: Path) -> None:
    for folder in sorted((p for p in root.rglob("*") if p.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def features(contract: Contract) -> dict[str, dict[str, Any]]:
    """LeRobot's feature table for a contract."""
    action = {"dtype": "float32", "shape": (contract.action.dim,), "names": list(contract.action.names)}
    state = {"dtype": "float32", "shape": (contract.state.dim,), "names": list(contract.state.names)}
    images = {
        f"observation.images.{i.name}": {
            "dtype": "video",
            "shape": (i.height, i.width, 3),
            "names": ["height", "width", "channels"],
        }
        for i in contract.images
    }
    stage = {"dtype": "int64", "shape": (1,), "names": None}
    return {**images, "observation.state": state, "action": action, "executed_action": action, "stage": stage}


def write_json(path: Path, data: Any) -> None:
    """Atomic: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    os.replace(temporary, path)
