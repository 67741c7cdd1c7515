"""From a 7-D action to servo targets: LIBERO's scaling, differential IK, a target on a leash.

An action in [-1, 1] moves a target pose by 0.05 m per axis and 0.5 rad of axis-angle, both in the
world frame; the seventh number's sign opens (-) or closes (+) the gripper. The target is kept on
a leash around the measured pose, so that pushing against the desk does not wind it up; LIBERO's
controller has the same purpose in restarting from the measured pose each step, at the price of
moving less than asked. Fingers have a leash of their own, which bounds their speed and their
squeeze.
"""

from __future__ import annotations

import mink
import mujoco
import numpy as np

from costep.sim.desk.arm import HOME, OPEN, add_arm

MOVE, TURN = 0.05, 0.5  # metres and radians at full action
LEASH_MOVE, LEASH_TURN = 0.06, 0.4
REACH = np.array(
    [[0.28, -0.34, 0.012], [0.78, 0.34, 0.50]]
)  # the target's box; the fingertips stay off the desk
FINGER_LEASH = 0.012  # how far ahead of the fingers their servo looks: sets speed and squeeze
STEP = 0.05  # seconds, 20 Hz


class Controller:
    """Holds the target pose and the joint angles that reach it."""

    def __init__(self) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        add_arm(spec, gripper=False)
        self._arm = mink.Configuration(spec.compile())
        self._pose = mink.FrameTask("eef", "site", position_cost=1.0, orientation_cost=0.3)
        self._posture = mink.PostureTask(self._arm.model, cost=1e-3)
        self._posture.set_target(HOME)
        self._limits = [mink.ConfigurationLimit(self._arm.model)]
        self._position, self._rotation = np.zeros(3), mink.SO3.identity()

    def reset(self, joints: np.ndarray) -> None:
        """Start from these seven joint angles; the target is where they put the hand."""
        self._arm.update(joints)
        pose = self._arm.get_transform_frame_to_world("eef", "site")
        self._position, self._rotation = pose.translation(), pose.rotation()

    def joints_at(self, position: np.ndarray, yaw: float) -> np.ndarray:
        """(7,) joint angles that hold the hand at `position`, pointing down at `yaw`; from HOME."""
        self._arm.update(HOME)
        down = mink.SO3.from_z_radians(yaw) @ mink.SO3.from_x_radians(np.pi)
        self._pose.set_target(mink.SE3.from_rotation_and_translation(down, position))
        self._solve(iterations=15)
        return self._arm.q.copy()

    def command(
        self, action: np.ndarray, eef: np.ndarray, quat: np.ndarray, fingers: np.ndarray
    ) -> np.ndarray:
        """(9,) servo targets, joints then fingers, from the action (7,) and the measured pose."""
        self._position = np.clip(_leash(self._position + MOVE * action[:3], eef), *REACH)
        self._rotation = _leash_turn(
            mink.SO3.exp(TURN * action[3:6]) @ self._rotation, mink.SO3(quat)
        )
        self._pose.set_target(
            mink.SE3.from_rotation_and_translation(self._rotation, self._position)
        )
        self._solve(iterations=2)
        return np.concatenate([self._arm.q, _fingers(float(action[6]), fingers)])

    def _solve(self, iterations: int) -> None:
        tasks = [self._pose, self._posture]
        for _ in range(iterations):
            velocity = mink.solve_ik(
                self._arm, tasks, STEP, "daqp", damping=1e-4, limits=self._limits
            )
            self._arm.integrate_inplace(velocity, STEP)


def _leash(target: np.ndarray, measured: np.ndarray) -> np.ndarray:
    offset = target - measured
    return measured + offset * min(1.0, LEASH_MOVE / max(float(np.linalg.norm(offset)), 1e-9))


def _leash_turn(target: mink.SO3, measured: mink.SO3) -> mink.SO3:
    offset = (target @ measured.inverse()).log()
    angle = float(np.linalg.norm(offset))
    return target if angle <= LEASH_TURN else mink.SO3.exp(offset * LEASH_TURN / angle) @ measured


def _fingers(command: float, fingers: np.ndarray) -> np.ndarray:
    """Both finger targets: one step of travel from the measured opening, plus the squeeze."""
    opening = float(fingers[0] - fingers[1]) / 2
    wanted = opening - np.sign(command) * FINGER_LEASH
    target = float(np.clip(wanted, 0.0, OPEN))
    return np.array([target, -target])
