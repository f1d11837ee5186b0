"""Points -> voxels, in integers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit
from core.voxel_limits import COORDINATE_LIMITS


class Voxels(NamedTuple):
    """V occupied voxels of P points, in the order in which their first points stand among the points.

    Attributes:
        coords: int32 [V, 3], voxel coordinates; the minimum along each axis is 0.
        representative: int64 [V], position of the point that stands for the voxel.
        point_voxel: int64 [P], voxel of each point.
    """

    coords: NDArray[np.int32]
    representative: NDArray[np.int64]
    point_voxel: NDArray[np.int64]


def near_enough(xyz: NDArray[np.floating], voxel_size: float) -> NDArray[np.bool_]:
    """bool [P]: which points lie so near the origin that voxels of them all span less than COORDINATE_LIMITS.

    At 0.05 m that is 3 275 m along x and y, 408 m along z.
    """
    reach = (np.array(COORDINATE_LIMITS) // 2 - 1) * voxel_size
    if len(xyz) == 0 or max(xyz.max(), -xyz.min()) < reach.min():  # as good as always, and quick
        return np.ones(len(xyz), bool)
    return (np.abs(xyz) < reach).all(1)


def voxelize(xyz: NDArray[np.floating], voxel_size: float, priority: NDArray[np.integer] | None = None) -> Voxels:
    """Groups points by voxel = round(xyz / voxel_size) - minimum.

    A voxel is represented by its point of the highest priority above 0 (the first of several), or else by its first
    point.

    Args:
        xyz: [P, 3], m.
        voxel_size: edge of a voxel, m.
        priority: [P], unsigned; 0 for points without; None: the first point always.
    Raises ValueError: the points span more voxels than a key of the sparse layers can hold (see `near_enough`).
    """
    if len(xyz) == 0:
        return Voxels(np.zeros((0, 3), np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    grid = _cells(xyz, voxel_size)
    sizes = grid.max(axis=0) + 1
    if (sizes > COORDINATE_LIMITS).any():
        raise ValueError(f"the points span {sizes.tolist()} voxels, more than {COORDINATE_LIMITS}")
    slots = 1 << (2 * len(grid) - 1).bit_length()  # at most half of the table is taken
    point_voxel, first = _number(grid, sizes, np.zeros(slots, np.int32))
    representative = first if priority is None else _represent(point_voxel, first, priority)
    return Voxels(grid[first].astype(np.int32), representative, point_voxel)


@njit(cache=True)
def _cells(xyz, voxel_size):  # type: ignore[no-untyped-def]
    """round(xyz / voxel_size) - minimum along each axis; int64 [P, 3]."""
    grid = np.empty(xyz.shape, np.int64)
    for axis in range(3):
        lowest = np.int64(np.iinfo(np.int64).max)
        for i in range(len(xyz)):
            cell = np.int64(np.rint(np.float64(xyz[i, axis]) / voxel_size))
            grid[i, axis] = cell
            if cell < lowest:
                lowest = cell
        for i in range(len(xyz)):
            grid[i, axis] -= lowest
    return grid


@njit(cache=True)
def _number(grid, sizes, table):  # type: ignore[no-untyped-def]
    """Numbers the voxels in the order of their first points, by a hash table with open addressing.

    Args:
        grid: int64 [P, 3], 0 <= grid < sizes.
        table: int32 zeros [T], T a power of two above P; holds voxel + 1.
    Returns point_voxel int64 [P], first point of each voxel int64 [V].
    """
    point_voxel = np.empty(len(grid), np.int64)
    first = np.empty(len(grid), np.int64)
    keys = np.empty(len(grid), np.int64)
    last_slot = np.uint64(len(table) - 1)
    count = 0
    for i in range(len(grid)):
        key = (grid[i, 0] * sizes[1] + grid[i, 1]) * sizes[2] + grid[i, 2]
        scrambled = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
        slot = (scrambled ^ (scrambled >> np.uint64(32))) & last_slot
        while table[slot] > 0 and keys[table[slot] - 1] != key:
            slot = (slot + np.uint64(1)) & last_slot
        if table[slot] == 0:
            keys[count], first[count] = key, i
            count += 1
            table[slot] = count
        point_voxel[i] = table[slot] - 1
    return point_voxel, first[:count].copy()


@njit(cache=True)
def _represent(point_voxel, first, priority):  # type: ignore[no-untyped-def]
    """The voxels' first points of the highest priority above 0, else their first points; int64 [V]."""
    representative = first.copy()
    best = np.zeros(len(first), np.int64)
    for i in range(len(priority)):
        voxel = point_voxel[i]
        if priority[i] > best[voxel]:
            best[voxel] = priority[i]
            representative[voxel] = i
    return representative
