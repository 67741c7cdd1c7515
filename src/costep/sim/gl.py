"""Headless OpenGL for MuJoCo: picked before `mujoco` is imported, left quietly at exit.

MuJoCo reads `MUJOCO_GL` once, while it is imported. `choose()` therefore has to run first; it
keeps a value that the user set, else takes EGL (GPU or Mesa's software device), else OSMesa. When
neither loads, simulation without pictures still works: the complaint, one line that says what to
install, comes when the first picture is asked for.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mujoco

PACKAGES = "libegl1 libgl1-mesa-dri (EGL) or libosmesa6 (software)"
_PLATFORM_DEVICE = 0x313F


class RenderingUnavailable(RuntimeError):
    """No off-screen OpenGL on this machine."""


def choose() -> str:
    """Set `MUJOCO_GL` when unset; returns it: egl | osmesa | disable, or the user's value."""
    if not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = (
            "egl" if _egl_works() else "osmesa" if _osmesa_works() else "disable"
        )
    return os.environ["MUJOCO_GL"]


def open_renderer(owner: object, model: mujoco.MjModel, size: int) -> mujoco.Renderer:
    """A `size` x `size` renderer, closed with its owner, or at exit before EGL's own tear-down.

    Raises RenderingUnavailable naming the packages to install when there is no back end.
    """
    import mujoco

    backend = choose()
    complaint = (
        f"no off-screen OpenGL (MUJOCO_GL={backend}): install {PACKAGES}, or use images=False"
    )
    if backend.lower() in ("disable", "disabled", "off", "0", "false"):
        raise RenderingUnavailable(complaint)
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    try:
        renderer = mujoco.Renderer(model, size, size)
    except Exception as error:  # the back ends raise each their own kind
        raise RenderingUnavailable(f"{complaint} ({error})") from error
    weakref.finalize(owner, renderer.close)
    return renderer


def _egl_works() -> bool:
    """True when some EGL device initialises: the library needs its driver too."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    address = egl.eglGetProcAddress
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    query, display = address(b"eglQueryDevicesEXT"), address(b"eglGetPlatformDisplayEXT")
    if not (query and display):
        return False
    devices, count = (ctypes.c_void_p * 16)(), ctypes.c_int(0)
    list_devices = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )(query)
    open_display = ctypes.CFUNCTYPE(
        ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p
    )(display)
    if not list_devices(16, devices, ctypes.byref(count)):
        return False
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return any(
        handle and egl.eglInitialize(handle, None, None)
        for handle in (
            open_display(_PLATFORM_DEVICE, device, None) for device in devices[: count.value]
        )
    )


def _osmesa_works() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
