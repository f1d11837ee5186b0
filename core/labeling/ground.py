"""Ground: planes in the cells of a polar grid (paper, section "pre-segmentation and annotation")."""

import numpy as np
from numpy.typing import NDArray

from core.labeling.parameters import WeakLabelParameters
from core.labeling.plane import PlaneFitter, plane_fitter


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
    fitter = plane_fitter(parameters.plane_fitter)
    frame_seed = int(rng.integers(2**62))
    num_components = 0
    for cell in group_points(ring, angular_bin):
        in_key_frame = cell[cell < len(key_points)]
        if len(in_key_frame) == 0:
            continue  # ground of sweeps alone is of no use
        cell_ring, cell_bin = int(ring[cell[0]]), int(angular_bin[cell[0]])
        threshold = normal_threshold(cell_ring, cell_bin, parameters)
        seed = (frame_seed + cell_ring * 1_000_003 + cell_bin * 10_007) % 2**62
        is_ground = ground_of_cell(xyz[cell], threshold, fitter, seed, parameters)
        ground = in_key_frame[is_ground[: len(in_key_frame)]]  # the key frame's points come first in a cell
        if len(ground) > 0:
            component[ground] = num_components
            num_components += 1
    return component


def polar_cells(
    xyz: NDArray[np.float64], grid_size: tuple[float, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ring and angular bin of each point, int64 [N] both, counted from the smallest occupied one.

    The radius is rounded to `grid_size[0]` (m), the angle to `grid_size[1]`·π. Bins -π and π are the same one.
    """
    ring = np.rint(np.hypot(xyz[:, 0], xyz[:, 1]) / grid_size[0]).astype(np.int64)
    angular_bin = np.rint(np.arctan2(xyz[:, 1], xyz[:, 0]) / (grid_size[1] * np.pi)).astype(np.int64)
    half_turn = round(1 / grid_size[1])
    angular_bin[angular_bin == half_turn] = -half_turn
    return ring - ring.min(), angular_bin - angular_bin.min()


def group_points(ring: NDArray[np.int64], angular_bin: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row indices of each occupied cell, ascending; cells ordered by ring, then by bin."""
    cell = ring * (angular_bin.max() + 1) + angular_bin
    order = np.argsort(cell.astype(np.uint16) if cell.max() < 2**16 else cell, kind="stable")  # 16 bits: radix sort
    return np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)


def normal_threshold(ring: int, angular_bin: int, parameters: WeakLabelParameters) -> float:
    """Least |n_z| of ground in a cell: stricter straight behind the vehicle, where its own body shows."""
    near = ring < parameters.near_rings and angular_bin in parameters.near_bins
    return parameters.near_norm_th if near else parameters.ps_norm_th


def ground_of_cell(
    xyz: NDArray[np.float64], threshold: float, fitter: PlaneFitter, seed: int, parameters: WeakLabelParameters
) -> NDArray[np.bool_]:
    """The points of one cell that are ground, bool [n].

    Args:
        xyz: [n, 3], all points of the cell (m).
        threshold: ground has |n_z| above it.
    """
    nothing = np.zeros(len(xyz), bool)
    candidate = lower_points(xyz[:, 2], parameters.ps_std_th)
    least_inliers = parameters.ps_first_try_share * candidate.sum()
    for attempt in range(parameters.ps_max_tries):
        if candidate.sum() <= parameters.ps_min_num:
            return nothing
        plane = fitter(
            xyz[candidate],
            parameters.ps_dis_th,
            parameters.ransac_points,
            parameters.ransac_iterations,
            seed + attempt,
        )
        if not plane.any():
            return nothing
        inlier = np.abs(heights_over(plane, xyz)) < parameters.ps_dis_th
        if attempt == 0 and inlier.sum() < least_inliers:
            return nothing
        if abs(plane[2]) > threshold and lies_below(xyz[:, 2], inlier, parameters.ps_outlier_th):
            return inlier
        candidate &= ~inlier
    return nothing


def lower_points(z: NDArray[np.float64], std_th: float) -> NDArray[np.bool_]:
    """All points, or those not above the mean where the heights z (m) spread by `std_th` or more."""
    return z <= z.mean() if z.std() >= std_th else np.ones(len(z), bool)


def heights_over(plane: NDArray[np.float64], xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed distances [n] of points [n, 3] from a plane [4] (m). No BLAS: its rounding depends on its threads."""
    return plane[0] * xyz[:, 0] + plane[1] * xyz[:, 1] + plane[2] * xyz[:, 2] + plane[3]


def lies_below(z: NDArray[np.float64], inlier: NDArray[np.bool_], outlier_share: float) -> bool:
    """Whether next to nothing lies off the plane, or what does is no lower on average."""
    outlier = ~inlier
    if outlier.sum() <= round(outlier_share * len(z)):
        return True
    return bool(inlier.any() and z[inlier].mean() <= z[outlier].mean())
