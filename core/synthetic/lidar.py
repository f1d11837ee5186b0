"""LiDAR turns of a scene: what the rays meet, and what the sensor makes of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.synthetic.ground import GROUND_LABEL, GROUND_REFLECTIVITY
from core.synthetic.labels import KIND
from core.synthetic.poses import Matrix
from core.synthetic.raycast import GROUND, SKY, turn
from core.synthetic.scene import Scene
from core.synthetic.sensors import Lidar

_FLOOR_ECHO = 25.0  # signal strength at which 1 - 1/e of the echoes are heard


@dataclass(frozen=True)
class Turn:
    """One turn as a range image of A azimuth steps and B beams."""

    distance: NDArray[np.float64]  # [A, B] metres; infinite where no echo came back
    intensity: NDArray[np.float64]  # [A, B] 0..255
    labels: NDArray[np.uint8]  # [A, B] kinds; own_vehicle where no echo came back
    things: NDArray[np.int64]  # [A, B] index into the scene's things, -1 for ground, the vehicle itself, and no echo


@dataclass(frozen=True)
class Scan:
    """Points of one turn in firing order, in the sensor frame."""

    points: NDArray[np.float32]  # [N, 5] x, y, z in metres, intensity 0..255, ring
    labels: NDArray[np.uint8]  # [N] kinds
    things: NDArray[np.int64]  # [N] as in Turn


def measure(scene: Scene, lidar: Lidar, time: float, rng: np.random.Generator) -> Turn:
    """One turn, all of it seen from where the vehicle is at `time` (seconds): no motion within a turn.

    Args:
        scene: the world.
        lidar: the sensor; its directions are in its own frame.
        time: seconds after the scene's first key frame.
        rng: for noise of ranges and intensities, and for lost echoes.
    """
    pose = scene.vehicle_pose(time) @ lidar.to_vehicle
    directions = lidar.directions()
    rays = turn(np.ascontiguousarray(pose[:3, :3]), directions)
    beams_first = np.ascontiguousarray(np.swapaxes(rays, 0, 1))  # the caster wants beams as rows: azimuths wrap
    reach, hit = trace(scene, lidar, pose, beams_first, time)
    reach, hit = np.ascontiguousarray(reach.T), np.ascontiguousarray(hit.T)
    solids, on_solid, solid = scene.solids, hit >= 0, np.maximum(hit, 0)
    material = scene.ground.material[scene.ground.cells(pose[:3, 3] + reach[..., None] * rays, hit == GROUND)]

    cosine = np.where(on_solid, 0.75, np.abs(rays[..., 2]))
    reflectivity = np.where(on_solid, solids.reflectivity[solid], GROUND_REFLECTIVITY[material])
    speckle = rng.lognormal(0.0, 0.25, reach.shape)
    intensity = np.clip(255.0 * reflectivity * (0.35 + 0.65 * np.sqrt(cosine)) * speckle, 0.0, 255.0)
    distance = reach + lidar.range_noise * rng.normal(size=reach.shape)
    distance += np.where(on_solid, solids.roughness[solid], 0.0) * np.abs(rng.normal(size=reach.shape))

    roof = _own_roof(lidar, directions)
    lost = (hit == SKY) | (distance > lidar.range_max) | ~heard(lidar, intensity, distance, rng)
    mine = lost | (roof > 0)
    return Turn(
        distance=np.where(roof > 0, roof, np.where(lost, np.inf, distance)),
        intensity=np.where(mine, rng.uniform(0.0, 30.0, reach.shape), intensity),
        labels=np.where(
            mine, KIND["own_vehicle"], np.where(on_solid, solids.label[solid], GROUND_LABEL[material])
        ).astype(np.uint8),
        things=np.where(on_solid & ~mine, solids.thing[solid], -1),
    )


def scan(scene: Scene, lidar: Lidar, time: float, rng: np.random.Generator) -> Scan:
    """The points of one turn; arguments as for `measure`.

    Where `lidar.keeps_misses`, a ray without an echo leaves a point within 30 cm of the sensor that counts as the
    vehicle's own.
    """
    found = measure(scene, lidar, time, rng)
    near = np.minimum(np.abs(rng.normal(0.0, 0.08, found.distance.shape)), 0.3)
    missed = np.isinf(found.distance)
    kept = rng.random(found.distance.shape) >= lidar.drop_rate
    if not lidar.keeps_misses:
        kept &= ~missed
    xyz = lidar.directions() * np.where(missed, near, found.distance)[..., None]
    rings = np.broadcast_to(np.arange(len(lidar.elevations), dtype=np.float64), missed.shape)
    points = np.concatenate([xyz, np.floor(found.intensity)[..., None], rings[..., None]], axis=-1)
    return Scan(points[kept].astype(np.float32), found.labels[kept], found.things[kept])


def heard(
    lidar: Lidar, intensity: NDArray[np.float64], distance: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which echoes of that intensity (0..255) and distance (m) are strong enough, at random; of their shape."""
    strength = (intensity + 4.0) * (lidar.range_max / np.maximum(distance, 1.0)) ** 2
    return rng.random(distance.shape) >= np.exp(-strength / _FLOOR_ECHO)


def trace(
    scene: Scene,
    lidar: Lidar,
    pose: Matrix,
    rays: NDArray[np.float64],
    time: float,
    columns: slice | None = None,
    transparent: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances and hits (SKY, GROUND or a solid) [B, A] of the rays [B, A, 3] of a turn, or of some of its columns.

    Args:
        columns: azimuth steps of the rays; None: all.
        transparent: rays go through foliage.
    """
    solids, centers = scene.solids, scene.solids.centers(time)
    origin = np.ascontiguousarray(pose[:3, 3])
    near = np.linalg.norm(centers - origin, axis=1) - np.linalg.norm(solids.axes, axis=(1, 2))
    used = np.flatnonzero((near < lidar.range_max) & ~(transparent & (solids.porosity > 0)))
    used = used[np.argsort(near[used], kind="stable")]
    corners = (solids.corners[used] + centers[used, None, :] - origin) @ pose[:3, :3]
    windows = column_windows(lidar, corners)
    if columns is not None:
        windows = _restrict(windows, columns, len(lidar.azimuths))
    distance, hit = scene.cast(origin, rays, used, centers, near, windows)
    return distance, np.where(hit >= 0, used[np.maximum(hit, 0)] if len(used) else hit, hit)


def column_windows(lidar: Lidar, corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which azimuth steps can see which solid, from its corners [S, 8, 3] in the sensor frame: int64 [S, 4]."""
    steps = len(lidar.azimuths)
    step = lidar.azimuths[1] - lidar.azimuths[0]
    middle = np.arctan2(corners[..., 1].mean(axis=1), corners[..., 0].mean(axis=1))
    relative = np.arctan2(corners[..., 1], corners[..., 0]) - middle[:, None]
    relative = (relative + np.pi) % (2 * np.pi) - np.pi
    low, high = relative.min(axis=1), relative.max(axis=1)
    at = (middle - lidar.azimuths[0]) / step
    first = np.floor(at + np.minimum(low / step, high / step)).astype(np.int64) - 1
    last = np.ceil(at + np.maximum(low / step, high / step)).astype(np.int64) + 2
    around = (high - low > np.pi * 0.98) | (last - first >= steps)
    offset = (first // steps) * steps
    columns = np.where(around[:, None], [0, steps], np.column_stack([first - offset, last - offset]))
    rows = np.broadcast_to([0, len(lidar.elevations)], (len(corners), 2))
    return np.ascontiguousarray(np.concatenate([rows, columns], axis=1), dtype=np.int64)


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


def _own_roof(lidar: Lidar, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance [A, B] to the vehicle's own roof behind the sensor, 0 where a ray misses it."""
    forward = lidar.to_vehicle[:3, :3].T[:, 0]  # the vehicle's x axis in the sensor frame
    sideways = np.arccos(np.clip(-(directions @ forward) / np.hypot(directions[..., 0], directions[..., 1]), -1, 1))
    down = np.sin(-lidar.elevations)
    reach = np.where(down > lidar.roof_below / lidar.roof_reach, lidar.roof_below / np.maximum(down, 1e-3), 0.0)
    return np.where(sideways < lidar.roof_half_angle, reach[None, :], 0.0)
