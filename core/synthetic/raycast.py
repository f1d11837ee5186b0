"""The one ray caster behind the LiDAR and the cameras, so that both see the very same world.

Solids are unit shapes under an affine map. They are taken one by one, from near to far, and tried on those rays of a
rectangular ray grid only that fall into the solid's window of rows and columns.
"""

import numpy as np

from core.running.compiled import njit
from core.synthetic.noise import hash3

BOX, ELLIPSOID, CYLINDER, CONE = 0, 1, 2, 3  # within the cube [-1, 1]^3; a cone's apex is at z = 1
SKY, GROUND = -2, -1  # what a ray hit where it is no solid
_HOLES = 3.5, 11.0  # cells a metre, coarse and fine, that are open or closed in porous solids
_FAR = 1e9


@njit(cache=True, nogil=True)
def cast_solids(origin, rays, kind, inverse, center, porosity, near, windows, distance, hit):
    """Shortens `distance` and sets `hit` where a ray meets a solid before anything else.

    Args:
        origin: float64 [3] of all rays, metres, world frame.
        rays: float64 [H, W, 3] directions, world frame; of any length, distances are counted in it.
        kind, inverse, center, porosity: int64 [S], float64 [S, 3, 3] (world -> unit shape), [S, 3], [S] (share of
            holes), solids sorted by `near`.
        near: float64 [S] lower bound of the distance, in ray lengths.
        windows: int64 [S, 4] first row, end row, first column, end column; columns count modulo W.
        distance: float64 [H, W], hit: int64 [H, W]; changed in place; hit becomes the solid's index.
    """
    width = rays.shape[1]
    for s in range(kind.shape[0]):
        a = inverse[s]
        px, py, pz = origin[0] - center[s, 0], origin[1] - center[s, 1], origin[2] - center[s, 2]
        ox = a[0, 0] * px + a[0, 1] * py + a[0, 2] * pz
        oy = a[1, 0] * px + a[1, 1] * py + a[1, 2] * pz
        oz = a[2, 0] * px + a[2, 1] * py + a[2, 2] * pz
        for row in range(windows[s, 0], windows[s, 1]):
            for wrapped in range(windows[s, 2], windows[s, 3]):
                column = wrapped % width
                if distance[row, column] <= near[s]:
                    continue
                x, y, z = rays[row, column, 0], rays[row, column, 1], rays[row, column, 2]
                dx = a[0, 0] * x + a[0, 1] * y + a[0, 2] * z
                dy = a[1, 0] * x + a[1, 1] * y + a[1, 2] * z
                dz = a[2, 0] * x + a[2, 1] * y + a[2, 2] * z
                enter, leave = _intersect(kind[s], ox, oy, oz, dx, dy, dz)
                t = enter
                nearest = 0.0 < t < distance[row, column]
                if nearest and porosity[s] > 0.0 and _is_hole(origin, x, y, z, t, porosity[s]):
                    t = _FAR if _is_hole(origin, x, y, z, leave, porosity[s]) else leave
                if t > 0.0 and t < distance[row, column]:
                    distance[row, column] = t
                    hit[row, column] = s


@njit(cache=True, nogil=True)
def _is_hole(origin, x, y, z, t, share):
    chance = 0.0
    for scale in _HOLES:
        i = int(np.floor((origin[0] + t * x) * scale))
        j = int(np.floor((origin[1] + t * y) * scale))
        k = int(np.floor((origin[2] + t * z) * scale))
        chance += 0.5 * hash3(i, j, k)
    return chance < np.sqrt(0.5 * share)  # the sum of two equal shares has a triangular distribution


@njit(cache=True, nogil=True)
def _intersect(kind, ox, oy, oz, dx, dy, dz):
    """Distances at which a line enters and leaves a unit shape; both _FAR where it misses or starts inside."""
    if kind == BOX:
        enter, leave = _slab(ox, dx, -_FAR, _FAR)
        enter, leave = _slab(oy, dy, enter, leave)
        enter, leave = _slab(oz, dz, enter, leave)
    elif kind == ELLIPSOID:
        enter, leave = _quadratic(
            dx * dx + dy * dy + dz * dz, ox * dx + oy * dy + oz * dz, ox * ox + oy * oy + oz * oz - 1.0
        )
    elif kind == CYLINDER:
        enter, leave = _quadratic(dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - 1.0)
        enter, leave = _slab(oz, dz, enter, leave)
    else:
        # x^2 + y^2 = w^2 with w = (1 - z) / 2 >= 0; the line is clipped to the half of the double cone below the apex
        w, dw = 0.5 * (1.0 - oz), -0.5 * dz
        qa, qb, qc = dx * dx + dy * dy - dw * dw, ox * dx + oy * dy - w * dw, ox * ox + oy * oy - w * w
        if qa > 1e-12:
            enter, leave = _quadratic(qa, qb, qc)
            enter, leave = _slab(oz, dz, enter, leave)
        else:
            enter, leave = _steep_cone(qa, qb, qc, oz, dz)
    if enter > leave or enter <= 1e-9:
        return _FAR, _FAR
    return enter, leave


@njit(cache=True, nogil=True)
def _slab(o, d, enter, leave):
    if abs(d) < 1e-12:
        return (enter, leave) if abs(o) <= 1.0 else (_FAR, -_FAR)
    first, second = (-1.0 - o) / d, (1.0 - o) / d
    return max(enter, min(first, second)), min(leave, max(first, second))


@njit(cache=True, nogil=True)
def _quadratic(a, b, c):
    """Roots of a t^2 + 2 b t + c for a > 0 (a = 0: everywhere or nowhere)."""
    if a < 1e-12:
        return (-_FAR, _FAR) if c <= 0.0 else (_FAR, -_FAR)
    root = b * b - a * c
    if root < 0.0:
        return _FAR, -_FAR
    root = np.sqrt(root)
    return (-b - root) / a, (-b + root) / a


@njit(cache=True, nogil=True)
def _steep_cone(a, b, c, oz, dz):
    """A line steeper than the cone's side: from one side wall to the base plane, the lower nappe only."""
    root = b * b - a * c
    if root < 0.0 or abs(dz) < 1e-12:
        return _FAR, -_FAR
    base = (-1.0 - oz) / dz
    if abs(a) <= 1e-12:
        side = -0.5 * c / b if abs(b) > 1e-12 else _FAR
    else:
        first, second = (-b - np.sqrt(root)) / a, (-b + np.sqrt(root)) / a
        side = min(first, second) if dz > 0.0 else max(first, second)
        other = max(first, second) if dz > 0.0 else min(first, second)
        if not (-1.0 <= oz + side * dz <= 1.0):
            side = other
    if not (-1.0 <= oz + side * dz <= 1.0):
        return _FAR, -_FAR
    return min(side, base), max(side, base)


@njit(cache=True, nogil=True)
def cast_ground(origin, rays, grid, grid_origin, cell, raised, distance, hit):
    """Shortens `distance` where a ray meets the ground before a solid, and sets `hit` to GROUND there.

    Args:
        origin, rays, distance, hit: as in `cast_solids`.
        grid: uint8 [Y, X] ground material; raised: bool [M] materials that lie above the plane z = 0, unevenly.
        grid_origin: float64 [2] x, y of the grid's first corner, metres; cell: edge of a cell, metres.
    """
    for row in range(rays.shape[0]):
        for column in range(rays.shape[1]):
            x, y, z = rays[row, column, 0], rays[row, column, 1], rays[row, column, 2]
            if z > -1e-6:
                continue
            t = -origin[2] / z
            if raised[ground_at(grid, grid_origin, cell, origin[0] + t * x, origin[1] + t * y)]:
                t = _climb(origin, x, y, z, grid, grid_origin, cell, raised, t)
            if t < distance[row, column]:
                distance[row, column] = t
                hit[row, column] = GROUND


@njit(cache=True, nogil=True)
def _climb(origin, x, y, z, grid, grid_origin, cell, raised, t):
    """Moves a hit of the plane below raised ground up to its surface, or onto the kerb in front of it."""
    inside = t
    for _ in range(3):
        t = (bump(origin[0] + t * x, origin[1] + t * y) - origin[2]) / z
    if raised[ground_at(grid, grid_origin, cell, origin[0] + t * x, origin[1] + t * y)]:
        return t
    for _ in range(8):
        middle = 0.5 * (inside + t)
        if raised[ground_at(grid, grid_origin, cell, origin[0] + middle * x, origin[1] + middle * y)]:
            inside = middle
        else:
            t = middle
    return inside


@njit(cache=True, nogil=True)
def turn(rotation, rays):
    """Rays [H, W, 3] turned by a rotation [3, 3]; the same bits for any number of threads."""
    turned = np.empty_like(rays)
    for row in range(rays.shape[0]):
        for column in range(rays.shape[1]):
            for c in range(3):
                turned[row, column, c] = (
                    rotation[c, 0] * rays[row, column, 0]
                    + rotation[c, 1] * rays[row, column, 1]
                    + rotation[c, 2] * rays[row, column, 2]
                )
    return turned


@njit(cache=True, nogil=True)
def ground_at(grid, grid_origin, cell, x, y):
    """Material of the ground at x, y; beyond the grid that of its nearest cell."""
    column = min(max(int((x - grid_origin[0]) / cell), 0), grid.shape[1] - 1)
    row = min(max(int((y - grid_origin[1]) / cell), 0), grid.shape[0] - 1)
    return grid[row, column]


@njit(cache=True, nogil=True)
def bump(x, y):
    """Height of raised ground at x, y: 2 to 30 cm of gentle humps."""
    return 0.16 + 0.08 * np.sin(1.1 * x + 0.4 * np.sin(0.7 * y)) + 0.06 * np.sin(1.7 * y + 0.9 * np.sin(0.5 * x))
