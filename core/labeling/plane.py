"""Fitting a plane to points by RANSAC, by the rule of Open3D's `segment_plane`: in numba, or by Open3D itself."""

import math
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from core.errors import UserError

CERTAINTY = 0.99999999  # probability of having seen a sample of inliers only, at which the search ends
_BLOCK = 512  # points between two looks at whether a hypothesis can still win


class PlaneFitter(Protocol):
    """Fits the plane n·p + d = 0 with the most points within `distance` of it.

    Args:
        points: float64 [n, 3] (m).
        distance: largest distance of an inlier, exclusive (m).
        sample_size: points per hypothesis, at least 3.
        iterations: hypotheses.
        seed: of the random samples, 0 <= seed < 2**63.

    Returns:
        float64 [4]: unit normal n and offset d; zeros where there is no plane (too few points, or points on a line).
    """

    def __call__(
        self, points: NDArray[np.float64], distance: float, sample_size: int, iterations: int, seed: int
    ) -> NDArray[np.float64]: ...


def plane_fitter(name: str) -> PlaneFitter:
    """The plane fitter `numba` or `open3d`."""
    fitters: dict[str, PlaneFitter] = {"numba": fit_plane, "open3d": fit_plane_open3d}
    if name not in fitters:
        raise UserError(f"dataset.plane_fitter: no plane fitter is named '{name}' (known: {', '.join(fitters)})")
    return fitters[name]


def fit_plane(
    points: NDArray[np.float64], distance: float, sample_size: int, iterations: int, seed: int
) -> NDArray[np.float64]:
    """PlaneFitter in numba: the same result for the same seed, whatever the number of threads."""
    if len(points) < sample_size:
        return np.zeros(4)
    center = points.mean(0)
    # centred, so that float32 resolves micrometres; one array per axis, so that scoring runs in vector registers
    x, y, z = np.ascontiguousarray((points - center).T, np.float32)
    plane = np.array(_ransac(x, y, z, np.float32(distance), sample_size, iterations, np.uint64(seed)))
    plane[3] -= plane[:3] @ center
    return plane


def fit_plane_open3d(
    points: NDArray[np.float64], distance: float, sample_size: int, iterations: int, seed: int
) -> NDArray[np.float64]:
    """PlaneFitter by Open3D. Its threads race for the early stop: only OMP_NUM_THREADS=1 repeats exactly."""
    o3d = import_open3d()
    if len(points) < sample_size:
        return np.zeros(4)
    o3d.utility.random.seed(seed % 2**31)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    plane, _ = cloud.segment_plane(distance, sample_size, iterations, CERTAINTY)
    return np.asarray(plane, dtype=np.float64)


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
def _ransac(x, y, z, distance, sample_size, iterations, seed):  # type: ignore[no-untyped-def]
    """Best hypothesis by number of inliers, then by their mean squared distance; refit to its inliers."""
    num_points = x.size
    state = np.array([seed], np.uint64)
    sample = np.empty(sample_size, np.int64)
    best_plane = (0.0, 0.0, 0.0, 0.0)
    best_count, best_error = 0, np.inf
    scored, limit = 0, float(iterations)
    for _ in range(iterations):
        if scored > limit:
            break
        _draw_sample(state, num_points, sample)
        plane = _plane_through(x, y, z, sample)
        if plane[0] == 0 and plane[1] == 0 and plane[2] == 0:
            continue
        scored += 1
        count = _count_inliers(x, y, z, plane, distance, best_count)
        if count < max(best_count, 1):
            continue
        error = _squared_error(x, y, z, plane, distance)  # the same count: less error is a smaller mean
        if count > best_count or error < best_error:
            best_count, best_error, best_plane = count, error, plane
            limit = min(_iterations_needed(count / num_points, sample_size), float(iterations))
    if best_count == 0:
        return best_plane
    return _plane_through(x, y, z, _inliers(x, y, z, best_plane, distance, best_count))


@njit(cache=True, nogil=True)
def _iterations_needed(share, sample_size):  # type: ignore[no-untyped-def]
    """Hypotheses after which a sample of inliers only has been drawn with probability CERTAINTY."""
    all_inliers = share**sample_size
    if all_inliers >= 1.0:
        return 0.0
    if all_inliers < 1e-15:
        return np.inf
    return math.floor(math.log(1 - CERTAINTY) / math.log1p(-all_inliers))


@njit(cache=True, nogil=True)
def _draw_sample(state, num_points, sample):  # type: ignore[no-untyped-def]
    """Fills `sample` with distinct indices below `num_points`."""
    for k in range(sample.size):
        fresh = False
        while not fresh:
            high_bits = _next_random(state) >> np.uint64(32)
            sample[k] = np.int64((high_bits * np.uint64(num_points)) >> np.uint64(32))
            fresh = True
            for j in range(k):
                if sample[j] == sample[k]:
                    fresh = False


@njit(cache=True, nogil=True)
def _next_random(state):  # type: ignore[no-untyped-def]
    """The next 64 random bits (splitmix64)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    bits = state[0]
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@njit(cache=True, nogil=True)
def _plane_through(x, y, z, rows):  # type: ignore[no-untyped-def]
    """Plane through the mean of the points `rows`, least squares along the axis that suits best; zeros for a line."""
    mx, my, mz = 0.0, 0.0, 0.0
    for i in rows:
        mx += x[i]
        my += y[i]
        mz += z[i]
    mx, my, mz = mx / rows.size, my / rows.size, mz / rows.size
    xx, xy, xz, yy, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in rows:
        dx, dy, dz = x[i] - mx, y[i] - my, z[i] - mz
        xx += dx * dx
        xy += dx * dy
        xz += dx * dz
        yy += dy * dy
        yz += dy * dz
        zz += dz * dz
    det_x, det_y, det_z = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    if det_x > det_y and det_x > det_z:
        a, b, c = det_x, xz * yz - xy * zz, xy * yz - xz * yy
    elif det_y > det_z:
        a, b, c = xz * yz - xy * zz, det_y, xy * xz - yz * xx
    else:
        a, b, c = xy * yz - xz * yy, xy * xz - yz * xx, det_z
    norm = math.sqrt(a * a + b * b + c * c)
    if norm == 0:
        return 0.0, 0.0, 0.0, 0.0
    a, b, c = a / norm, b / norm, c / norm
    return a, b, c, -(a * mx + b * my + c * mz)


@njit(cache=True, nogil=True)
def _count_inliers(x, y, z, plane, distance, best):  # type: ignore[no-untyped-def]
    """Number of inliers, or -1 as soon as it can no longer reach `best`."""
    a, b, c, d = np.float32(plane[0]), np.float32(plane[1]), np.float32(plane[2]), np.float32(plane[3])
    count, start = 0, 0
    while start < x.size:
        stop = min(start + _BLOCK, x.size)
        xs, ys, zs = x[start:stop], y[start:stop], z[start:stop]
        in_block = np.int32(0)
        for i in range(xs.size):  # this form compiles to vector instructions
            in_block = np.int32(in_block + np.int32(abs(a * xs[i] + b * ys[i] + c * zs[i] + d) < distance))
        count += int(in_block)
        if count + x.size - stop < best:
            return -1
        start = stop
    return count


@njit(cache=True, nogil=True)
def _squared_error(x, y, z, plane, distance):  # type: ignore[no-untyped-def]
    """Sum of the inliers' squared distances."""
    a, b, c, d = np.float32(plane[0]), np.float32(plane[1]), np.float32(plane[2]), np.float32(plane[3])
    error = 0.0
    for i in range(x.size):
        gap = a * x[i] + b * y[i] + c * z[i] + d
        if abs(gap) < distance:
            error += gap * gap
    return error


@njit(cache=True, nogil=True)
def _inliers(x, y, z, plane, distance, count):  # type: ignore[no-untyped-def]
    """Indices of the `count` inliers."""
    a, b, c, d = np.float32(plane[0]), np.float32(plane[1]), np.float32(plane[2]), np.float32(plane[3])
    rows = np.empty(count, np.int64)
    k = 0
    for i in range(x.size):
        if abs(a * x[i] + b * y[i] + c * z[i] + d) < distance:
            rows[k] = i
            k += 1
    return rows
