"""Cells of a polar grid around the sensor."""

import math

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit

_COUNTED_CELLS = 2**20  # as many at most are sorted by counting
_ANGLE_ERROR = 3e-5  # of the quick angle, at most (rad)
_RADIUS_ERROR = 1e-6  # of the quick radius, relative, at most


def polar_cells(
    xyz: NDArray[np.float64], grid_size: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ring and angular bin of each point, int64 [N] both, counted from the smallest occupied one.

    The radius is rounded to `grid_size[0]` (m), the angle to `grid_size[1]`·π. Bins -π and π are the same one.

    Args:
        xyz: [N, >= 2], N > 0 (m).
    """
    ring_step, angle_step = grid_size[0], grid_size[1] * math.pi
    radius, angle = _quick_polar(xyz, np.float32(1 / ring_step), np.float32(1 / angle_step))
    ring, angular_bin = _round_polar(xyz, radius, angle, ring_step, angle_step)
    half_turn = round(1 / grid_size[1])
    angular_bin[angular_bin == half_turn] = -half_turn
    ring -= ring.min()
    angular_bin -= angular_bin.min()
    return ring, angular_bin


def group_points(
    ring: NDArray[np.int64], angular_bin: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points sorted by ring, then by bin, in file order inside a cell.

    Returns:
        int64 [N], the rows in that order; int64 [K + 1], where each of the K occupied cells starts in it, and the end.
    """
    cell = ring * (angular_bin.max() + 1) + angular_bin
    num_cells = int(cell.max()) + 1
    order = _counting_sort(cell, num_cells) if num_cells <= _COUNTED_CELLS else np.argsort(cell, kind="stable")
    inner = np.flatnonzero(np.diff(cell[order])) + 1
    return order, np.concatenate([[0], inner, [len(order)]])


@njit(cache=True, nogil=True, error_model="numpy")
def _quick_polar(xyz, rings_per_meter, bins_per_radian):  # type: ignore[no-untyped-def]
    """Radius and angle of each point in rings and bins, float32 [N] both; without a branch, for vector registers.

    The arc tangent is that of Abramowitz and Stegun, "Handbook of Mathematical Functions", 4.4.49.
    """
    radius, angle = np.empty(len(xyz), np.float32), np.empty(len(xyz), np.float32)
    half_pi, pi, tiny = np.float32(math.pi / 2), np.float32(math.pi), np.float32(1e-30)
    c1, c3, c5 = np.float32(0.9998660), np.float32(-0.3302995), np.float32(0.1801410)
    c7, c9 = np.float32(-0.0851330), np.float32(0.0208351)
    for i in range(len(xyz)):
        x, y = np.float32(xyz[i, 0]), np.float32(xyz[i, 1])
        radius[i] = math.sqrt(x * x + y * y) * rings_per_meter
        t = min(abs(x), abs(y)) / (max(abs(x), abs(y)) + tiny)
        s = t * t
        a = c7 + s * c9  # step by step: type checkers take minutes over the nested form
        a = c5 + s * a
        a = c3 + s * a
        a = t * (c1 + s * a)
        a = half_pi - a if abs(y) > abs(x) else a
        a = pi - a if x < 0 else a
        angle[i] = math.copysign(a, y) * bins_per_radian
    return radius, angle


@njit(cache=True, nogil=True)
def _round_polar(xyz, radius, angle, ring_step, angle_step):  # type: ignore[no-untyped-def]
    """Whole rings and bins, int64 [N] both; computed anew in float64 near the border between two."""
    ring, angular_bin = np.empty(len(xyz), np.int64), np.empty(len(xyz), np.int64)
    for i in range(len(xyz)):
        r, a = np.rint(radius[i]), np.rint(angle[i])
        if abs(radius[i] - r) > 0.499 - _RADIUS_ERROR * r:
            r = np.rint(np.hypot(xyz[i, 0], xyz[i, 1]) / ring_step)
        if abs(angle[i] - a) > 0.499 - _ANGLE_ERROR / angle_step:
            a = np.rint(np.arctan2(xyz[i, 1], xyz[i, 0]) / angle_step)
        ring[i], angular_bin[i] = np.int64(r), np.int64(a)
    return ring, angular_bin


@njit(cache=True, nogil=True)
def _counting_sort(cell, num_cells):  # type: ignore[no-untyped-def]
    """Stable order of the rows by `cell`, 0 <= cell < num_cells."""
    place = np.zeros(num_cells + 1, np.int64)
    for c in cell:
        place[c + 1] += 1
    for c in range(num_cells):
        place[c + 1] += place[c]
    order = np.empty(len(cell), np.int64)
    for i in range(len(cell)):
        order[place[cell[i]]] = i
        place[cell[i]] += 1
    return order
