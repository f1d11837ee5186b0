"""Rotations and rigid transforms as plain matrices."""

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Matrix:
    """Rotation [3, 3] from angles in radians: first roll about x, then pitch about y, then yaw about z (z up)."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    return about_z @ about_y @ about_x


def transform(rotation_matrix: Matrix, translation: tuple[float, ...] | Matrix) -> Matrix:
    """Rigid transform [4, 4] from a rotation [3, 3] and a translation [3] in metres."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix
    matrix[:3, 3] = translation
    return matrix


def quaternion(rotation_matrix: Matrix) -> list[float]:
    """Unit quaternion [w, x, y, z] of a rotation [3, 3], of the sign with w >= 0."""
    m = rotation_matrix
    # the eigenvector of the largest eigenvalue of this symmetric matrix is the quaternion (Bar-Itzhack, 2000)
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    q = np.linalg.eigh(k)[1][:, -1]
    return [float(v) for v in (q if q[0] >= 0 else -q)]
