"""The arm: seven joints with a Panda's kinematics, and a parallel gripper that opens 8 cm.

Frames: the base stands at the origin on the desk (z = 0 is the desk's surface), x points to the
workspace, y to the left. The site `eef` lies between the fingertips; its z axis points out of the
hand, its y axis is the direction in which the fingers open. Fingers are coupled and report (+q,
-q), as LIBERO's Panda does: (0.04, -0.04) is open. Link masses are rough and gravity on the arm
is compensated, as a real arm's controller does.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

JOINTS = tuple(f"joint{i}" for i in range(1, 8))
FINGERS = ("finger_left", "finger_right")
OPEN = 0.04  # metres each finger travels
HOME = np.array(
    [0.0, -0.216, 0.0, -2.6207, 0.0, 2.4047, 0.7854]
)  # eef at (0.42, 0, 0.22), pointing down

_X90, _X270 = (0.70710678, 0.70710678, 0, 0), (0.70710678, -0.70710678, 0, 0)
_WHITE, _GREY, _DARK = (0.93, 0.93, 0.95, 1), (0.55, 0.57, 0.62, 1), (0.13, 0.13, 0.15, 1)
ROBOT_BITS = {"contype": 2, "conaffinity": 1}  # touches everything but itself


@dataclass(frozen=True)
class Link:
    """One joint and the link behind it, a capsule between two points of its own frame."""

    position: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    limits: tuple[float, float]
    stiffness: float
    capsule: tuple[float, float, float, float, float, float]
    radius: float
    mass: float
    colour: tuple[float, float, float, float] = _WHITE


LINKS = (
    Link((0, 0, 0.333), (1, 0, 0, 0), (-2.8973, 2.8973), 4500, (0, 0, -0.19, 0, 0, 0), 0.065, 3),
    Link((0, 0, 0), _X270, (-1.7628, 1.7628), 4500, (0, 0, 0, 0, -0.15, 0), 0.065, 3),
    Link((0, -0.316, 0), _X90, (-2.8973, 2.8973), 3500, (0, 0, -0.1, 0.06, 0, 0), 0.06, 2.5),
    Link(
        (0.0825, 0, 0),
        _X90,
        (-3.0718, -0.0698),
        3500,
        (0, 0, 0, -0.0825, 0.12, 0),
        0.06,
        2.5,
        _GREY,
    ),
    Link(
        (-0.0825, 0.384, 0), _X270, (-2.8973, 2.8973), 2000, (0, 0, -0.25, 0, 0, -0.02), 0.055, 2.5
    ),
    Link((0, 0, 0), _X90, (-0.0175, 3.7525), 2000, (0, 0, 0, 0.088, 0, 0), 0.05, 1.5, _GREY),
    Link((0.088, 0, 0), _X90, (-2.8973, 2.8973), 2000, (0, 0, 0, 0, 0, 0.07), 0.045, 0.7),
)


def add_arm(spec: mujoco.MjSpec, gripper: bool = True) -> None:
    """Add the arm to `spec`; without `gripper` the fingers are left out (for the IK)."""
    body = spec.worldbody.add_body(name="base")
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[0.085, 0.07, 0],
        pos=[0, 0, 0.07],
        rgba=_GREY,
        **ROBOT_BITS,
    )
    for name, link in zip(JOINTS, LINKS, strict=True):
        body = body.add_body(
            name=name.replace("joint", "link"), pos=link.position, quat=link.rotation, gravcomp=1
        )
        body.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            range=link.limits,
            armature=0.1,
            damping=1,
        )
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            fromto=link.capsule,
            size=[link.radius, 0, 0],
            mass=link.mass,
            rgba=link.colour,
            **ROBOT_BITS,
        )
        _add_servo(
            spec, name, link.stiffness, 2.0 * np.sqrt(link.stiffness * 0.6), limits=link.limits
        )
    _add_hand(spec, body, gripper)


def _add_hand(spec: mujoco.MjSpec, flange: mujoco.MjsBody, gripper: bool) -> None:
    hand = flange.add_body(
        name="hand", pos=[0, 0, 0.107], quat=[0.92387953, 0, 0, -0.38268343], gravcomp=1
    )
    hand.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.025, 0.08, 0.032],
        pos=[0, 0, 0.028],
        mass=0.6,
        rgba=_GREY,
        **ROBOT_BITS,
    )
    hand.add_site(name="eef", pos=[0, 0, 0.1034], size=[0.002] * 3, group=4)
    if not gripper:
        return
    for name, side in zip(FINGERS, (1, -1), strict=True):
        _add_finger(spec, hand, name, side)
    coupling = spec.add_equality(
        name="coupling", type=mujoco.mjtEq.mjEQ_JOINT, objtype=mujoco.mjtObj.mjOBJ_JOINT
    )
    coupling.name1, coupling.name2 = FINGERS[1], FINGERS[0]
    coupling.data[:2] = (0, -1)


def _add_finger(spec: mujoco.MjSpec, hand: mujoco.MjsBody, name: str, side: int) -> None:
    """A finger that slides along the hand's y axis; closed, its pad's face is at y = 0."""
    finger = hand.add_body(name=name, pos=[0, 0, 0.0584], gravcomp=1)
    limits = (0, OPEN) if side > 0 else (-OPEN, 0)
    finger.add_joint(
        name=name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0, 1, 0],
        range=limits,
        armature=0.1,
        damping=5,
    )
    finger.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.009, 0.006, 0.018],
        pos=[0, side * 0.008, 0.016],
        mass=0.03,
        rgba=_GREY,
        **ROBOT_BITS,
    )
    finger.add_geom(
        name=f"{name}_pad",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.010, 0.005, 0.012],
        pos=[0, side * 0.005, 0.043],
        mass=0.02,
        rgba=_DARK,
        condim=4,
        friction=[2.0, 0.05, 0.001],
        solref=[0.006, 1],
        priority=1,
        **ROBOT_BITS,
    )
    _add_servo(spec, name, 1000, 60, limits=limits, force=60)


def _add_servo(
    spec: mujoco.MjSpec,
    joint: str,
    kp: float,
    kv: float,
    limits: tuple[float, float],
    force: float = 300,
) -> None:
    servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    servo.set_to_position(kp=kp, kv=kv)
    servo.ctrlrange, servo.forcerange = limits, (-force, force)
