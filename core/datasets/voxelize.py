"""Points -> voxels, in integers."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


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


def voxelize(xyz: NDArray[np.floating], voxel_size: float, priority: NDArray[np.integer] | None = None) -> Voxels:
    """Groups points by voxel = round(xyz / voxel_size) - minimum.

    A voxel is represented by its point of the highest priority above 0 (the first of several), or else by its first
    point.

    Args:
        xyz: [P, 3], m.
        voxel_size: edge of a voxel, m.
        priority: [P], unsigned; 0 for points without; None: the first point always.
    """
    if len(xyz) == 0:
        return Voxels(np.zeros((0, 3), np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))
    grid = np.round(xyz.astype(np.float64) / voxel_size).astype(np.int64)
    grid -= grid.min(axis=0)
    key = _pack(grid)

    # equal keys side by side, in file order: each group starts with the voxel's first point
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    first_of_group = order[starts]

    # number the groups by their first points
    by_first = np.argsort(first_of_group)
    voxel_of_group = np.empty_like(by_first)
    voxel_of_group[by_first] = np.arange(len(by_first))
    point_voxel = np.empty(len(key), np.int64)
    point_voxel[order] = np.repeat(voxel_of_group, np.diff(starts, append=len(key)))

    first = first_of_group[by_first]
    representative = first.copy()
    if priority is not None:
        voxels, points = _best_by_priority(point_voxel, priority)
        representative[voxels] = points
    return Voxels(grid[first].astype(np.int32), representative, point_voxel)


def _pack(grid: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number per voxel: int64 [P] from non-negative coordinates int64 [P, 3]."""
    size = grid.max(axis=0) + 1
    if np.prod(size.astype(np.float64)) >= 2.0**62:
        raise ValueError(f"the points span {size.tolist()} voxels: too many to number; check the points or voxel_size")
    return (grid[:, 0] * size[1] + grid[:, 1]) * size[2] + grid[:, 2]


def _best_by_priority(
    point_voxel: NDArray[np.int64], priority: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The voxels that hold points with priority, and for each the first of those with the highest."""
    points = np.flatnonzero(priority)
    points = points[np.lexsort((points, -priority[points].astype(np.int64), point_voxel[points]))]
    voxels, position = np.unique(point_voxel[points], return_index=True)
    return voxels, points[position]
