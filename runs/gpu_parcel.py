"""Folders as numbered files of limited size, and back: for machines that return small files only.

A ``small`` policy has 24 to 46 million parameters, 47 to 87 MiB in bf16, more than one file may
carry.  ``pack`` makes one tar file, ``send`` cuts some of its parts, ``receive`` collects them over
several deliveries, checks their digests and unpacks once all are there.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

PART = 15 * 2**20  # bytes
MANIFEST = "parcel.json"


def pack(folders: Mapping[str, Path], tar: Path) -> Path:
    """``folders`` under their names in one tar file; an existing one is kept as it is."""
    if not tar.exists():
        partial = tar.with_name(tar.name + ".tmp")
        with tarfile.open(partial, "w") as file:
            for name, folder in folders.items():
                file.add(folder, name)
        os.replace(partial, tar)
    return tar


def parts(tar: Path) -> int:
    return -(-tar.stat().st_size // PART)


def send(tar: Path, out: Path, first: int, stop: int) -> list[Path]:
    """Parts ``first`` to ``stop`` - 1 of ``tar``, and the digests of all, into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    digests, written = [], []
    with tar.open("rb") as file:
        for index in range(parts(tar)):
            data = file.read(PART)
            digests.append(hashlib.sha256(data).hexdigest())
            if first <= index < stop:
                written.append(out / _name(index))
                written[-1].write_bytes(data)
    (out / MANIFEST).write_text(json.dumps({"sha256": digests}) + "\n")
    return written


def receive(delivery: Path, shelf: Path, target: Path) -> list[int]:
    """Add a delivery to ``shelf``; unpack into ``target`` when it completes the parcel.

    Returns the numbers of the parts that are still missing.  Raises ValueError for a damaged part,
    and for one of another parcel.
    """
    digests = json.loads((delivery / MANIFEST).read_text())["sha256"]
    shelf = shelf / hashlib.sha256("".join(digests).encode()).hexdigest()[:12]
    shelf.mkdir(parents=True, exist_ok=True)
    for index, digest in enumerate(digests):
        if (delivery / _name(index)).exists():
            data = (delivery / _name(index)).read_bytes()
            if hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"{delivery / _name(index)} is damaged; have it sent again")
            (shelf / _name(index)).write_bytes(data)
    missing = [i for i in range(len(digests)) if not (shelf / _name(i)).exists()]
    if not missing:
        _unpack([shelf / _name(i) for i in range(len(digests))], target)
    return missing


def _unpack(files: list[Path], target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    tar = target / ".parcel.tar"
    with tar.open("wb") as joined:
        for file in files:
            joined.write(file.read_bytes())
    with tarfile.open(tar) as file:
        file.extractall(target, filter="data")
    tar.unlink()


def _name(index: int) -> str:
    return f"checkpoints.tar.{index:02d}"
