"""RANSAC for planes in numba, by the rule of Open3D's `segment_plane`: samples of several points, least squares."""

import math

import numpy as np

from core.running.compiled import njit

CERTAINTY = 0.99999999  # probability of having seen a sample of inliers only, at which the search ends
_BLOCK = 512  # points between two looks at whether a hypothesis can still win


@njit(cache=True, nogil=True)
def ransac_plane(points, distance, sample_size, iterations, seed):  # type: ignore[no-untyped-def]
    """Best plane (n, d) by number of inliers, then by their mean squared distance; refit to its inliers.

    Args:
        points: float64 [n, 3] (m).
        distance: largest distance of an inlier, exclusive (m).

    Returns:
        unit normal and offset, four numbers; zeros where there is no plane.
    """
    num_points = len(points)
    if num_points < sample_size:
        return 0.0, 0.0, 0.0, 0.0
    cx, cy, cz = 0.0, 0.0, 0.0
    for i in range(num_points):
        cx += points[i, 0]
        cy += points[i, 1]
        cz += points[i, 2]
    cx, cy, cz = cx / num_points, cy / num_points, cz / num_points
    # centred, so that float32 resolves micrometres; one array per axis, so that scoring runs in vector registers
    x, y, z = np.empty(num_points, np.float32), np.empty(num_points, np.float32), np.empty(num_points, np.float32)
    for i in range(num_points):
        x[i], y[i], z[i] = points[i, 0] - cx, points[i, 1] - cy, points[i, 2] - cz
    a, b, c, d = _ransac(x, y, z, np.float32(distance), sample_size, iterations, seed)
    return a, b, c, d - (a * cx + b * cy + c * cz)


@njit(cache=True, nogil=True)
def _ransac(x, y, z, distance, sample_size, iterations, seed):  # type: ignore[no-untyped-def]
    num_points = x.size
    state = np.array([seed], np.uint64)
    sample, drawn_in = np.empty(sample_size, np.int64), np.full(num_points, -1, np.int64)
    best_plane = (0.0, 0.0, 0.0, 0.0)
    best_count, best_error = 0, np.inf
    scored, limit = 0, float(iterations)
    for k in range(iterations):
        if scored > limit:
            break
        _draw_sample(state, sample, drawn_in, k)
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
def _draw_sample(state, sample, drawn_in, number):  # type: ignore[no-untyped-def]
    """Fills `sample` with distinct points; `drawn_in`, per point the last sample that it was in, tells repetitions."""
    num_points = np.uint64(drawn_in.size)
    for k in range(sample.size):
        i = _random_below(state, num_points)
        while drawn_in[i] == number:
            i = _random_below(state, num_points)
        drawn_in[i] = number
        sample[k] = i


@njit(cache=True, nogil=True)
def _random_below(state, limit):  # type: ignore[no-untyped-def]
    """A random number from 0 to limit - 1, limit < 2**32."""
    return np.int64(((_next_random(state) >> np.uint64(32)) * limit) >> np.uint64(32))


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
