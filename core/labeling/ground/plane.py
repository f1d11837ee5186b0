"""Fitting planes to the points of cells by RANSAC: in numba (see ransac.py), or by Open3D."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.ground.ransac import CERTAINTY, ransac_plane
from core.running.compiled import njit


@dataclass(frozen=True)
class Cells:
    """Points in groups, one cell after the other.

    Attributes:
        xyz: float64 [n, 3] (m).
        starts: int64 [K + 1]; the points starts[k] .. starts[k + 1] - 1 are those of cell k.
    """

    xyz: NDArray[np.float64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


class PlaneFitter(Protocol):
    """Fits the plane n·p + d = 0 with the most points within `distance` of it, in each of several cells.

    Args:
        cells: points of all cells.
        candidate: bool [n], the points that take part.
        chosen: bool [K], the cells to fit a plane in.
        seeds: int64 [K], of each cell's random samples, 0 <= seed < 2**63.
        distance: largest distance of an inlier, exclusive (m).
        sample_size: points per hypothesis, at least 3.
        iterations: hypotheses.

    Returns:
        float64 [K, 4]: unit normal n and offset d; zeros where there is no plane (too few points, points on a line),
        and in the other cells.
    """

    def __call__(
        self,
        cells: Cells,
        candidate: NDArray[np.bool_],
        chosen: NDArray[np.bool_],
        seeds: NDArray[np.int64],
        distance: float,
        sample_size: int,
        iterations: int,
    ) -> NDArray[np.float64]: ...


def plane_fitter(name: str) -> PlaneFitter:
    """The plane fitter `numba` or `open3d`."""
    fitters: dict[str, PlaneFitter] = {"numba": fit_planes, "open3d": fit_planes_open3d}
    if name not in fitters:
        raise UserError(f"dataset.plane_fitter: no plane fitter is named '{name}' (known: {', '.join(fitters)})")
    return fitters[name]


def fit_planes(
    cells: Cells,
    candidate: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    seeds: NDArray[np.int64],
    distance: float,
    sample_size: int,
    iterations: int,
) -> NDArray[np.float64]:
    """PlaneFitter in numba: the same result for the same seed, whatever the number of threads."""
    return _fit_planes(cells.xyz, cells.starts, candidate, chosen, seeds, distance, sample_size, iterations)


def fit_planes_open3d(
    cells: Cells,
    candidate: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    seeds: NDArray[np.int64],
    distance: float,
    sample_size: int,
    iterations: int,
) -> NDArray[np.float64]:
    """PlaneFitter by Open3D. Its threads race for the early stop: only OMP_NUM_THREADS=1 repeats exactly."""
    o3d = import_open3d()
    planes = np.zeros((len(cells), 4))
    for k in np.flatnonzero(chosen):
        rows = slice(cells.starts[k], cells.starts[k + 1])
        points = cells.xyz[rows][candidate[rows]]
        if len(points) >= sample_size:
            o3d.utility.random.seed(int(seeds[k]) % 2**31)
            cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
            planes[k], _ = cloud.segment_plane(distance, sample_size, iterations, CERTAINTY)
    return planes


def import_open3d() -> Any:
    """Open3D, or a UserError that says how to install it."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise UserError(
            f"dataset.plane_fitter is open3d, which does not import ({error}): pip install open3d-cpu==0.19.0 "
            "(and the system's libgl1 and libusb-1.0-0), or choose plane_fitter numba"
        ) from error
    return open3d


@njit(cache=True, nogil=True)
def _fit_planes(xyz, starts, candidate, chosen, seeds, distance, sample_size, iterations):  # type: ignore[no-untyped-def]
    planes = np.zeros((len(chosen), 4))
    for k in range(len(chosen)):
        if not chosen[k]:
            continue
        start, stop = starts[k], starts[k + 1]
        points = xyz[start:stop][candidate[start:stop]]
        planes[k] = ransac_plane(points, distance, sample_size, iterations, np.uint64(seeds[k]))
    return planes
