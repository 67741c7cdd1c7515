"""MANIFEST.json: size and sha256 of every file of a folder, written last.  A folder without one was
never finished.

Loading compares sizes of all files and digests of the small ones that decide what the numbers mean;
``full`` digests everything.  Files that the manifest does not name (exit thresholds, a protocol,
written later) are left alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

NAME = "MANIFEST.json"
ALWAYS = ("config.json", "contract.json")  # digested at every load


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says expected, actual and the fix."""


def seal(folder: Path) -> None:
    """Flush every file of ``folder`` to disk, then write its manifest (also the way to accept an
    edited file)."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME):
        _flush(path)
        files[str(path.relative_to(folder))] = {
            "bytes": path.stat().st_size,
            "sha256": sha256(path),
        }
    text = json.dumps({"format_version": 1, "files": files}, indent=2) + "\n"
    temporary = folder / f".{NAME}.{os.getpid()}.tmp"
    temporary.write_text(text)
    _flush(temporary)
    os.replace(temporary, folder / NAME)
    _flush(folder)


def check(folder: Path, full: bool = False) -> None:
    """Raise a CheckpointError when a file is missing, has another size or (see the module) another
    content."""
    problems = []
    for name, recorded in _read(folder).items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != recorded["bytes"]:
            problems.append(f"{name} has {path.stat().st_size} bytes, expected {recorded['bytes']}")
        elif (full or name in ALWAYS) and sha256(path) != recorded["sha256"]:
            problems.append(
                f"{name} was changed: sha256 {sha256(path)[:12]}, "
                f"expected {recorded['sha256'][:12]}"
            )
    if problems:
        raise CheckpointError(
            f"checkpoint {folder} is damaged: {'; '.join(problems)}. Restore the files, "
            "use an earlier checkpoint, or, after a deliberate edit, run "
            "costep.train.manifest.seal on the folder"
        )


def intact(folder: Path) -> bool:
    try:
        check(folder)
    except CheckpointError:
        return False
    return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path) -> dict[str, dict]:
    path = folder / NAME
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {NAME}: it is not a costep checkpoint, or writing it was "
            "interrupted. Use an earlier checkpoint of the run"
        )
    try:
        return json.loads(path.read_text())["files"]
    except (ValueError, KeyError) as problem:
        raise CheckpointError(
            f"{path} is unreadable ({problem}); use an earlier checkpoint"
        ) from None


def _flush(path: Path) -> None:
    """fsync, so that a power cut cannot leave a sealed folder with empty files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
