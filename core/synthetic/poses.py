"""Rotations and rigid transforms as plain matrices."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Matrix = NDArray[np.float64]


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Matrix:
    """Rotation [3, 3] from angles in radians: first roll about x, then pitch about y, then yaw about z (z up)."""
    return Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()


def transform(rotation_matrix: Matrix, translation: tuple[float, ...] | Matrix) -> Matrix:
    """Rigid transform [4, 4] from a rotation [3, 3] and a translation [3] in metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix
    matrix[:3, 3] = translation
    return matrix


def quaternion(rotation_matrix: Matrix) -> list[float]:
    """Unit quaternion [w, x, y, z] of a rotation [3, 3], of the sign with w >= 0."""
    x, y, z, w = Rotation.from_matrix(rotation_matrix).as_quat(canonical=True)
    return [float(w), float(x), float(y), float(z)]
