"""A turn of the TOP LiDAR while the vehicle moves, as range images of both returns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.synthetic.formats.waymo.labels import OF_KIND, ground_classes
from core.synthetic.formats.waymo.sensors import TURN_SECONDS
from core.synthetic.ground import CELL, GROUND_RAISED, GROUND_REFLECTIVITY
from core.synthetic.lidar import column_windows, heard
from core.synthetic.poses import Matrix
from core.synthetic.raycast import GROUND, SKY, cast_ground, cast_solids, turn
from core.synthetic.scene import Scene
from core.synthetic.sensors import Lidar

_SLICES = 16  # parts of a turn in which the vehicle stands still
_BEHIND = 0.5  # least distance between two echoes of a ray, metres
_SECOND_ECHOES = 0.7  # share of the rays through foliage that bring a second one


@dataclass(frozen=True)
class Echo:
    """One return of a turn; H beams, the highest first, and W azimuth steps.

    Attributes:
        distance: float64 [H, W], metres; not positive where there is none.
        intensity, elongation: float64 [H, W].
        classes: uint8 [H, W], Waymo's.
        things: int64 [H, W], index into the scene's things, -1 for ground and none.
        points: float64 [H, W, 3], scene frame, metres.
    """

    distance: NDArray[np.float64]
    intensity: NDArray[np.float64]
    elongation: NDArray[np.float64]
    classes: NDArray[np.uint8]
    things: NDArray[np.int64]
    points: NDArray[np.float64]


@dataclass(frozen=True)
class RangeImages:
    """Both returns of a turn, and where the vehicle was: float64 [W, 4, 4], vehicle -> scene frame per column."""

    first: Echo
    second: Echo
    poses: NDArray[np.float64]


def measure_moving(scene: Scene, lidar: Lidar, time: float, rng: np.random.Generator) -> RangeImages:
    """One turn around `time` (seconds after the scene's first key frame), in the middle of which it is `time`.

    The vehicle moves on between slices of the turn; other things stand still meanwhile.
    """
    steps, beams = len(lidar.azimuths), len(lidar.elevations)
    shape = (beams, steps)
    poses = np.empty((steps, 4, 4))
    reach, hit = np.full((2, *shape), 1e9), np.full((2, *shape), SKY, np.int64)
    origins, rays = np.empty((steps, 3)), np.empty((*shape, 3))
    directions = np.swapaxes(lidar.directions(), 0, 1)
    for columns in _slices(steps):
        middle = (columns.start + columns.stop) / 2 / steps - 0.5
        poses[columns] = scene.vehicle_pose(time + TURN_SECONDS * middle)
        pose = poses[columns.start] @ lidar.to_vehicle
        origins[columns] = pose[:3, 3]
        rays[:, columns] = turn(np.ascontiguousarray(pose[:3, :3]), np.ascontiguousarray(directions[:, columns]))
        for echo, transparent in enumerate((False, True)):
            reach[echo][:, columns], hit[echo][:, columns] = _cast(
                scene, lidar, pose, np.ascontiguousarray(rays[:, columns]), time, columns, transparent
            )
    kept = rng.random(shape) >= lidar.drop_rate
    first = _echo(scene, lidar, origins, rays, reach[0], hit[0], kept, rng)
    porous = (hit[0] >= 0) & (scene.solids.porosity[np.maximum(hit[0], 0)] > 0)
    kept = porous & (first.distance > 0) & (rng.random(shape) < _SECOND_ECHOES) & (reach[1] > reach[0] + _BEHIND)
    second = _echo(scene, lidar, origins, rays, reach[1], hit[1], kept, rng)
    return RangeImages(first, second, poses)


def _slices(steps: int) -> Iterator[slice]:
    limits = np.linspace(0, steps, min(_SLICES, steps) + 1).round().astype(int)
    return (slice(int(begin), int(end)) for begin, end in zip(limits[:-1], limits[1:], strict=True))


def _cast(
    scene: Scene,
    lidar: Lidar,
    pose: Matrix,
    rays: NDArray[np.float64],
    time: float,
    columns: slice,
    transparent: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and hits (SKY, GROUND or a solid) [H, columns] of a slice; foliage may count as transparent."""
    solids, centers = scene.solids, scene.solids.centers(time)
    origin = np.ascontiguousarray(pose[:3, 3])
    near = np.linalg.norm(centers - origin, axis=1) - np.linalg.norm(solids.axes, axis=(1, 2))
    used = np.flatnonzero((near < lidar.range_max) & ~(transparent & (solids.porosity > 0)))
    used = used[np.argsort(near[used], kind="stable")]
    corners = (solids.corners[used] + centers[used, None, :] - origin) @ pose[:3, :3]
    windows = _restrict(column_windows(lidar, corners), columns, len(lidar.azimuths))
    seen = windows[:, 3] > windows[:, 2]
    used, windows = used[seen], windows[seen]
    distance, hit = np.full(rays.shape[:2], 1e9), np.full(rays.shape[:2], SKY, np.int64)
    cast_solids(
        origin,
        rays,
        solids.kind[used],
        solids.inverse[used],
        centers[used],
        solids.porosity[used],
        near[used],
        windows,
        distance,
        hit,
    )
    ground = scene.ground
    cast_ground(origin, rays, ground.material, ground.origin, CELL, GROUND_RAISED, distance, hit)
    return distance, np.where(hit >= 0, used[np.maximum(hit, 0)] if len(used) else hit, hit)


def _restrict(windows: NDArray[np.int64], columns: slice, steps: int) -> NDArray[np.int64]:
    """The windows of a whole turn, whose columns count modulo `steps`, within a slice of it and counted from there."""
    first = np.stack([windows[:, 2], windows[:, 2] - steps])
    last = np.stack([windows[:, 3], windows[:, 3] - steps])
    first, last = np.maximum(first, columns.start), np.minimum(last, columns.stop)
    empty = first >= last
    first, last = np.where(empty, columns.stop, first), np.where(empty, columns.start, last)
    restricted = windows.copy()
    restricted[:, 2], restricted[:, 3] = first.min(0) - columns.start, last.max(0) - columns.start
    return restricted


def _echo(
    scene: Scene,
    lidar: Lidar,
    origins: NDArray[np.float64],
    rays: NDArray[np.float64],
    reach: NDArray[np.float64],
    hit: NDArray[np.int64],
    kept: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Echo:
    """What the sensor makes of the hits [H, W]; origins [W, 3], rays [H, W, 3], scene frame."""
    solids, on_solid = scene.solids, hit >= 0
    solid = np.maximum(hit, 0)
    cells = _ground_cells(scene, origins + reach[..., None] * rays, hit == GROUND)
    cosine = np.where(on_solid, 0.75, np.abs(rays[..., 2]))
    reflectivity = np.where(on_solid, solids.reflectivity[solid], GROUND_REFLECTIVITY[scene.ground.material[cells]])
    intensity = 4.0 * reflectivity * (0.35 + 0.65 * np.sqrt(cosine)) * rng.lognormal(0.0, 0.25, reach.shape)
    roughness = np.where(on_solid, solids.roughness[solid], 0.0)
    distance = reach + lidar.range_noise * rng.normal(size=reach.shape)
    distance += roughness * np.abs(rng.normal(size=reach.shape))
    kept = kept & (hit != SKY) & (distance <= lidar.range_max)
    kept &= heard(lidar, 64.0 * intensity, distance, rng)
    classes = np.where(on_solid, OF_KIND[solids.label[solid]], ground_classes(scene.ground)[cells])
    return Echo(
        distance=np.where(kept, distance, -1.0),
        intensity=np.where(kept, intensity, -1.0),
        elongation=np.where(kept, rng.exponential(0.05 + 2.0 * roughness), -1.0),
        classes=np.where(kept, classes, 0).astype(np.uint8),
        things=np.where(kept & on_solid, solids.thing[solid], -1),
        points=origins + distance[..., None] * rays,
    )


def _ground_cells(
    scene: Scene, points: NDArray[np.float64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each point's cell of the ground; the nearest one where it is beside the ground."""
    ground = scene.ground
    flat = np.where(valid[..., None], points[..., :2], ground.origin)
    cells = np.trunc((flat - ground.origin) / CELL).astype(np.int64)
    limits = ground.material.shape
    return np.clip(cells[..., 1], 0, limits[0] - 1), np.clip(cells[..., 0], 0, limits[1] - 1)
