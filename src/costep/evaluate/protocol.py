"""What exactly was evaluated: a frozen ``Protocol``, saved verbatim beside every result.

Success rates of robot policies move by tens of points with conventions that nobody wrote down:
which initial states, how many steps, how many actions of a chunk are executed, which cameras. So
the episodes are an explicit list of (task, seed) pairs; two runs with the same list start from the
same states and can be compared pair by pair. Nothing here runs anything.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("costep", "torch", "numpy", "mujoco", "gymnasium", "lerobot", "transformers")
MAY_DIFFER = ("agent", "exits", "versions", "n_action_steps")  # what two paired runs may vary


@dataclass(frozen=True)
class Protocol:
    """One evaluation, completely: the episodes, the interface to the robot, and whose actions.

    suite: name of the benchmark.  tasks x seeds: the episodes; ``seeds`` are initial states, the
    same ones for every task.  max_steps: environment steps before an episode counts as failed.
    n_action_steps: actions of a chunk executed before the next query.  cameras: in the policy's
    order.  exits: "off", "auto", or the calibration file.  agent: whose actions (checkpoint or
    control).  env_genuine, assets_genuine: False where the simulator or its models stand in for the
    benchmark's own; then ``deviations`` says how.
    """

    suite: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    max_steps: int
    n_action_steps: int
    cameras: tuple[str, ...]
    control_hz: float
    agent: str = ""
    exits: str = "off"
    success_rule: str = "first"
    env_genuine: bool = True
    assets_genuine: bool = True
    deviations: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tasks", "seeds", "cameras", "deviations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("tasks", "seeds", "cameras"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"protocol.{name} needs distinct entries, at least one: {values}")
        for name in ("max_steps", "n_action_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"protocol.{name} must be at least 1, got {getattr(self, name)}")
        if not (self.env_genuine and self.assets_genuine) and not self.deviations:
            raise ValueError("protocol.deviations must say what stands in for the genuine parts")

    def episodes(self) -> Iterator[tuple[str, int]]:
        """All (task, seed) pairs, task by task."""
        return ((task, seed) for task in self.tasks for seed in self.seeds)

    def __len__(self) -> int:
        return len(self.tasks) * len(self.seeds)

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Protocol:
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown protocol fields {unknown}; known are {sorted(known)}")
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write atomically: a reader sees the old file or the new one, never half of it."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Protocol:
        return cls.from_json(json.loads(Path(path).read_text()))


def differences(a: Protocol, b: Protocol) -> dict[str, tuple[Any, Any]]:
    """Field name -> (value in a, value in b) wherever two protocols disagree."""
    left, right = a.to_json(), b.to_json()
    return {name: (left[name], right[name]) for name in left if left[name] != right[name]}


def check_same(saved: Protocol, asked: Protocol, where: Path) -> None:
    """Refuse to continue a run under another protocol."""
    if changed := differences(saved, asked):
        lines = [f"  {k}: saved {old!r}, asked for {new!r}" for k, (old, new) in changed.items()]
        text = "\n".join(lines)
        raise ValueError(
            f"{where} holds an evaluation with another protocol:\n{text}\n"
            "Evaluate into another folder, or delete this one to start again."
        )


def check_paired(a: Protocol, b: Protocol) -> None:
    """Refuse to pair runs whose episodes do not start from the same states under the same rules."""
    changed = {k: v for k, v in differences(a, b).items() if k not in MAY_DIFFER}
    changed.pop("seeds", None)  # the pairing itself takes the seeds that both runs have
    changed.pop("tasks", None)
    if changed:
        raise ValueError(f"these runs cannot be paired, their protocols differ in {changed}")


def installed_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version of every package that is installed, and of Python."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the numbers were measured on: processor, cores, and how busy the machine was."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.system(), "load_1min": load}


def write_json(path: Path, values: Any) -> None:
    """Atomic JSON: temporary file beside the target, then ``os.replace``."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")
    os.replace(temporary, path)
