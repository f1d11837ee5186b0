"""Cells of a polar grid around the sensor."""

import math

import numpy as np
from numpy.typing import NDArray


def polar_cells(
    xyz: NDArray[np.float64], grid_size: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ring and angular bin of each point, int64 [N] both, counted from the smallest occupied one.

    The radius is rounded to `grid_size[0]` (m), the angle to `grid_size[1]`·π. Bins -π and π are the same one.

    Args:
        xyz: [N, >= 2], N > 0 (m).
    """
    ring = np.rint(np.hypot(xyz[:, 0], xyz[:, 1]) / grid_size[0]).astype(np.int64)
    angular_bin = np.rint(np.arctan2(xyz[:, 1], xyz[:, 0]) / (grid_size[1] * math.pi)).astype(np.int64)
    half_turn = round(1 / grid_size[1])
    angular_bin[angular_bin == half_turn] = -half_turn
    ring -= ring.min()
    angular_bin -= angular_bin.min()
    return ring, angular_bin


def group_points(
    ring: NDArray[np.int64], angular_bin: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points sorted by ring, then by bin, in file order inside a cell.

    Returns int64 [N], the rows in that order; int64 [K + 1], where each of the K occupied cells starts in it, and the
    end.
    """
    cell = ring * (angular_bin.max() + 1) + angular_bin
    order = np.argsort(cell, kind="stable")
    inner = np.flatnonzero(np.diff(cell[order])) + 1
    return order, np.concatenate([[0], inner, [len(order)]])
