"""Lenses that do not draw straight lines straight: OpenCV's plumb-bob (with its rational part) and fisheye models."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MODELS = {"plumb_bob": (4, 5, 8), "fisheye": (4,)}
"""Models, and how many coefficients each may have, in OpenCV's order."""
_STEPS = 4096  # of the angle, in the search for the widest one


@dataclass(frozen=True, eq=False)
class Lens:
    """What a lens does to the rays of a camera.

    Attributes:
        model: "plumb_bob" (k1, k2, p1, p2[, k3[, k4, k5, k6]]) or "fisheye" (k1, k2, k3, k4).
        coefficients: in OpenCV's order.
        intrinsic: float64 [3, 3], pixels.
        lidar_to_camera: float64 [4, 4]; homogeneous point (m) in the LiDAR frame -> camera frame (x right, y down,
            z forward).
    """

    model: str
    coefficients: tuple[float, ...]
    intrinsic: NDArray[np.float64]
    lidar_to_camera: NDArray[np.float64]

    @cached_property
    def widest_angle(self) -> float:
        """Angle from the axis (rad) up to which the model moves points outwards; beyond it, it folds back."""
        last = math.pi if self.model == "fisheye" else math.pi / 2
        angle = np.linspace(0, last, _STEPS, endpoint=False)
        distance = self._radial(angle) if self.model == "fisheye" else self._radial(np.tan(angle))
        back = np.flatnonzero(~(np.diff(distance) > 0))
        return float(angle[back[0]]) if len(back) else last

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where points fall in the image, and how far they are.

        Args:
            points: [N, >= 3], x, y, z (m) in the LiDAR frame.
        Returns float64 [N, 2], (u, v) in pixels, NaN beyond the widest angle; float64 [N], depth along the axis, or for
        a fisheye, which sees sideways, distance (m).
        """
        x, y, z = (points[:, :3].astype(np.float64) @ self.lidar_to_camera[:3, :3].T + self.lidar_to_camera[:3, 3]).T
        across = np.hypot(x, y)
        angle = np.arctan2(across, z)
        valid = angle < self.widest_angle
        with np.errstate(all="ignore"):
            if self.model == "fisheye":
                scale = np.where(across > 0, self._radial(angle) / across, 0.0)
                a, b, depth = x * scale, y * scale, np.sqrt(across**2 + z**2)
            else:
                a, b = self._plumb_bob(x / z, y / z)
                depth = z
            homogeneous = np.stack([a, b, np.ones_like(a)], 1) @ self.intrinsic.T
        return np.where(valid[:, None], homogeneous[:, :2], np.nan), depth

    def _radial(self, r: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance from the centre in the image plane of focal length 1: of the angle (fisheye) or its tangent."""
        k, s = self.coefficients, r * r
        if self.model == "fisheye":
            return r * (1 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3]))))
        return r * self._factor(s)

    def _factor(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The plumb-bob's factor on a ray at squared distance `s`."""
        k1, k2, _, _, k3, k4, k5, k6 = (*self.coefficients, 0.0, 0.0, 0.0, 0.0)[:8]
        return (1 + s * (k1 + s * (k2 + s * k3))) / (1 + s * (k4 + s * (k5 + s * k6)))

    def _plumb_bob(
        self, a: NDArray[np.float64], b: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        p1, p2 = self.coefficients[2:4]
        s = a * a + b * b
        factor = self._factor(s)
        return (
            a * factor + 2 * p1 * a * b + p2 * (s + 2 * a * a),
            b * factor + p1 * (s + 2 * b * b) + 2 * p2 * a * b,
        )
