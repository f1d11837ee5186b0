"""Ground: planes in the cells of a polar grid (paper, section "pre-segmentation and annotation")."""

import numpy as np
from numpy.typing import NDArray

from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.ground.plane import Cells, PlaneFitter, plane_fitter
from core.labeling.ground.polar import group_points, polar_cells
from core.running.compiled import njit


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

    Returns:
        int32 [N]: component of each key frame point, 0, 1, ... in order of the cells; -1 = not ground.
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
    _number_components(order, starts, is_ground, component)
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
    xyz, starts = cells.xyz, cells.starts
    candidate, count = _lower_points(xyz, starts, parameters.ps_std_th)
    least = parameters.ps_first_try_share * count  # inliers of the first plane
    ground, unsettled = np.zeros(len(xyz), bool), wanted.copy()
    for attempt in range(parameters.ps_max_tries):
        unsettled &= count > parameters.ps_min_num
        if not unsettled.any():
            break
        planes = fitter(
            cells,
            candidate,
            unsettled,
            seeds + attempt,
            parameters.ps_dis_th,
            parameters.ransac_points,
            parameters.ransac_iterations,
        )
        _judge_planes(
            xyz,
            starts,
            planes,
            threshold,
            least if attempt == 0 else np.zeros_like(least),
            parameters.ps_dis_th,
            parameters.ps_outlier_th,
            candidate,
            count,
            unsettled,
            ground,
        )
    return ground


@njit(cache=True, nogil=True)
def _lower_points(xyz, starts, std_th):  # type: ignore[no-untyped-def]
    """Candidates: a cell's points, or those not above the mean where its heights spread by `std_th` (m) or more.

    Returns bool [n], and their number in each cell, int64 [K].
    """
    candidate, count = np.ones(len(xyz), np.bool_), np.empty(len(starts) - 1, np.int64)
    for k in range(len(count)):
        start, stop = starts[k], starts[k + 1]
        count[k] = stop - start
        total, squares = 0.0, 0.0
        for i in range(start, stop):
            total += xyz[i, 2]
        mean = total / count[k]
        for i in range(start, stop):
            squares += (xyz[i, 2] - mean) ** 2
        if np.sqrt(squares / count[k]) >= std_th:
            count[k] = 0
            for i in range(start, stop):
                candidate[i] = xyz[i, 2] <= mean
                count[k] += candidate[i]
    return candidate, count


@njit(cache=True, nogil=True)
def _judge_planes(  # type: ignore[no-untyped-def]
    xyz, starts, planes, threshold, least, distance, outlier_share, candidate, count, unsettled, ground
):
    """Accepts each unsettled cell's plane as ground, or refuses it and takes its inliers from the candidates.

    A cell without a plane, or with fewer inliers than `least`, is settled without ground. Changes the last four arrays.
    """
    for k in range(len(planes)):
        if not unsettled[k]:
            continue
        a, b, c, d = planes[k]
        start, stop = starts[k], starts[k + 1]
        inlier = np.empty(stop - start, np.bool_)
        num_inliers, z_inliers, z_outliers = 0, 0.0, 0.0
        for i in range(start, stop):
            x, y, z = xyz[i]
            near = abs(a * x + b * y + c * z + d) < distance
            inlier[i - start] = near
            num_inliers += near
            z_inliers += z if near else 0.0
            z_outliers += 0.0 if near else z
        if (a == 0 and b == 0 and c == 0) or num_inliers < least[k]:
            unsettled[k] = False
        elif abs(c) > threshold[k] and _lies_below(num_inliers, stop - start, z_inliers, z_outliers, outlier_share):
            ground[start:stop] = inlier
            unsettled[k] = False
        else:
            for i in range(start, stop):
                if candidate[i] and inlier[i - start]:
                    candidate[i] = False
                    count[k] -= 1


@njit(cache=True, nogil=True)
def _lies_below(num_inliers, num_points, z_inliers, z_outliers, outlier_share):  # type: ignore[no-untyped-def]
    """Whether next to nothing lies off the plane, or what does is no lower on average; z: sums of heights."""
    num_outliers = num_points - num_inliers
    if num_outliers <= np.rint(outlier_share * num_points):
        return True
    return num_inliers > 0 and z_inliers / num_inliers <= z_outliers / num_outliers


@njit(cache=True, nogil=True)
def _number_components(order, starts, is_ground, component):  # type: ignore[no-untyped-def]
    """Numbers the cells with ground among the key frame's points in `component`, of which there are as many."""
    num_components = 0
    for k in range(len(starts) - 1):
        found = False
        for i in range(starts[k], starts[k + 1]):
            if is_ground[i] and order[i] < len(component):
                component[order[i]] = num_components
                found = True
        num_components += found
