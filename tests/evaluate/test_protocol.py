"""The protocol survives a file, and refuses what would make results incomparable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from costep.evaluate.protocol import (
    Protocol,
    check_paired,
    check_same,
    differences,
    installed_versions,
    machine,
    write_json,
)

PLAIN = Protocol(
    suite="desk",
    tasks=("stack", "bowl"),
    seeds=(7, 3, 5),
    max_steps=120,
    n_action_steps=8,
    cameras=("agent", "wrist"),
    control_hz=20.0,
    agent="base",
    versions={"torch": "2"},
)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    PLAIN.save(tmp_path / "deep" / "protocol.json")
    assert Protocol.load(tmp_path / "deep" / "protocol.json") == PLAIN
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["protocol.json"]  # no leftovers


def test_episodes_keep_their_order() -> None:
    assert list(PLAIN.episodes())[:4] == [("stack", 7), ("stack", 3), ("stack", 5), ("bowl", 7)]
    assert len(PLAIN) == 6


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("seeds", (), "seeds"),
        ("seeds", (1, 1), "distinct"),
        ("tasks", (), "tasks"),
        ("max_steps", 0, "max_steps"),
        ("n_action_steps", 0, "n_action_steps"),
        ("assets_genuine", False, "deviations"),
    ],
)
def test_bad_values_are_named(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **{field: value})


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        Protocol.from_json({**PLAIN.to_json(), "colour": "red"})


def test_differences_and_refusals() -> None:
    shorter = replace(PLAIN, max_steps=100)
    assert differences(PLAIN, shorter) == {"max_steps": (120, 100)}
    with pytest.raises(ValueError, match="max_steps: saved 120, asked for 100"):
        check_same(PLAIN, shorter, Path("out"))
    with pytest.raises(ValueError, match="cannot be paired"):
        check_paired(PLAIN, shorter)
    check_paired(PLAIN, replace(PLAIN, agent="after", exits="auto", n_action_steps=4, seeds=(3,)))


def test_versions_and_machine_are_plain() -> None:
    assert installed_versions(("numpy", "no-such-package")).keys() == {"python", "numpy"}
    assert machine()["cores"] >= 1


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"bad": float("nan")})
    assert not (tmp_path / "x.json").exists()
