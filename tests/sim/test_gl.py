"""The GL back end is chosen once, respects the user, and leaves quietly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from costep.sim import gl


def _run(code: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True
    )


def test_choice_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert gl.choose() == "glfw"


@pytest.mark.parametrize(
    ("egl", "osmesa", "expected"),
    [(True, True, "egl"), (False, True, "osmesa"), (False, False, "disable")],
)
def test_egl_then_osmesa_then_none(monkeypatch, egl, osmesa, expected):
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(gl, "_egl_works", lambda: egl)
    monkeypatch.setattr(gl, "_osmesa_works", lambda: osmesa)
    assert gl.choose() == expected
    assert os.environ["MUJOCO_GL"] == expected


def test_without_opengl_physics_works_and_pictures_say_what_to_install():
    code = """
from costep.sim import desk, gl
env = desk.make_env("bowl", images=False)
env.reset(seed=0)
env.step(desk.expert(env).act())
try:
    env.picture("agent")
except gl.RenderingUnavailable as error:
    print(error)
"""
    done = _run(code, MUJOCO_GL="disable")
    assert done.returncode == 0, done.stderr
    assert "libegl1" in done.stdout
    assert "libosmesa6" in done.stdout
    assert done.stdout.count("\n") == 1


@pytest.mark.sim
def test_an_environment_left_open_ends_without_noise():
    code = """
from costep.sim import desk
env = desk.make_env("bowl")
env.reset(seed=0)
env.picture("agent", 64)
"""
    done = _run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
