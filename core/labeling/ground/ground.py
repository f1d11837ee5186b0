"""Ground: planes in the cells of a polar grid (paper, section "pre-segmentation and annotation")."""

import numpy as np
from numpy.typing import NDArray

from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.ground.plane import Cells, PlaneFitter, plane_fitter
from core.labeling.ground.polar import group_points, polar_cells


def find_ground(
    key_points: NDArray[np.floating],
    sweep_points: NDArray[np.floating],
    parameters: WeakLabelParameters,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    """Ground components of the key frame, one per polar cell that has ground.

    Args:
        key_points: [N, >= 3], x, y, z (m) of the key frame's points in view, its sensor frame.
        sweep_points: [M, >= 3], points of earlier sweeps in the same frame; they help to find the planes.
    Returns int32 [N]: component of each key frame point, 0, 1, ... in order of the cells; -1 = not ground.
    """
    component = np.full(len(key_points), -1, np.int32)
    if len(key_points) == 0:
        return component
    xyz = np.concatenate([key_points[:, :3], sweep_points[:, :3]]).astype(np.float64, copy=False)
    ring, angular_bin = polar_cells(xyz, parameters.grid_size)
    order, starts = group_points(ring, angular_bin)
    first = order[starts[:-1]]  # of each cell; the key frame's points come first
    threshold = normal_threshold(ring[first], angular_bin[first], parameters)
    frame_seed = int(rng.integers(2**62))
    seeds = (frame_seed + ring[first] * 1_000_003 + angular_bin[first] * 10_007) % 2**62

    wanted = first < len(key_points)  # ground of sweeps alone is of no use
    fitter = plane_fitter(parameters.plane_fitter)
    is_ground = ground_of_cells(Cells(xyz.take(order, 0), starts), wanted, threshold, fitter, seeds, parameters)
    found = is_ground & (order < len(component))
    cell = np.repeat(np.arange(len(first)), np.diff(starts))
    component[order[found]] = np.unique(cell[found], return_inverse=True)[1]
    return component


def normal_threshold(
    ring: NDArray[np.int64], angular_bin: NDArray[np.int64], parameters: WeakLabelParameters
) -> NDArray[np.float64]:
    """Least |n_z| of ground in each cell [K]: stricter straight behind the vehicle, where its own body shows."""
    near = (ring < parameters.near_rings) & np.isin(angular_bin, parameters.near_bins)
    return np.where(near, parameters.near_norm_th, parameters.ps_norm_th)


def ground_of_cells(
    cells: Cells,
    wanted: NDArray[np.bool_],
    threshold: NDArray[np.float64],
    fitter: PlaneFitter,
    seeds: NDArray[np.int64],
    parameters: WeakLabelParameters,
) -> NDArray[np.bool_]:
    """The points that are ground, bool [n].

    Args:
        cells: all points of K cells (m).
        wanted: bool [K], the cells to look into.
        threshold: float64 [K], ground has |n_z| above it.
        seeds: int64 [K], of the cells' random samples.
    """
    sizes = np.diff(cells.starts)
    cell, z = np.repeat(np.arange(len(cells)), sizes), cells.xyz[:, 2]
    candidate = _lower_points(z, cell, sizes, parameters.ps_std_th)
    least = parameters.ps_first_try_share * _count(cell[candidate], sizes)  # inliers of the first plane
    numbers = parameters.ps_dis_th, parameters.ransac_points, parameters.ransac_iterations
    ground, unsettled = np.zeros(len(cell), bool), wanted.copy()
    for attempt in range(parameters.ps_max_tries):
        unsettled &= _count(cell[candidate], sizes) > parameters.ps_min_num
        if not unsettled.any():
            break
        planes = fitter(cells, candidate, unsettled, seeds + attempt, *numbers)
        normal, offset = planes[:, :3], planes[:, 3]
        inlier = np.abs((cells.xyz * normal[cell]).sum(1) + offset[cell]) < parameters.ps_dis_th
        unsettled &= normal.any(1) & (_count(cell[inlier], sizes) >= least)  # else settled, without ground
        accepted = unsettled & (np.abs(normal[:, 2]) > threshold)
        accepted &= _lies_below(z, cell, sizes, inlier, parameters.ps_outlier_th)
        ground |= inlier & accepted[cell]
        unsettled &= ~accepted
        candidate &= ~(inlier & unsettled[cell])
        least = np.zeros(len(cells))
    return ground


def _count(cell: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many points each cell has among those of `cell`, int64 [K]."""
    return np.bincount(cell, minlength=len(sizes))


def _lower_points(
    z: NDArray[np.float64], cell: NDArray[np.int64], sizes: NDArray[np.int64], std_th: float
) -> NDArray[np.bool_]:
    """Candidates, bool [n]: a cell's points, or those not above the mean where its heights spread by `std_th` (m)."""
    mean = np.bincount(cell, z) / sizes
    std = np.sqrt(np.bincount(cell, (z - mean[cell]) ** 2) / sizes)
    return (std < std_th)[cell] | (z <= mean[cell])


def _lies_below(
    z: NDArray[np.float64],
    cell: NDArray[np.int64],
    sizes: NDArray[np.int64],
    inlier: NDArray[np.bool_],
    outlier_share: float,
) -> NDArray[np.bool_]:
    """Cells, bool [K], where next to nothing lies off the plane, or what does is no lower on average."""
    num_inliers = _count(cell[inlier], sizes)
    num_outliers = sizes - num_inliers
    few = num_outliers <= np.rint(outlier_share * sizes)
    inside, outside = (np.bincount(cell, np.where(part, z, 0.0)) for part in (inlier, ~inlier))
    higher = inside / np.maximum(num_inliers, 1) <= outside / np.maximum(num_outliers, 1)
    return few | ((num_inliers > 0) & higher)
