"""A turn of the TOP LiDAR while the vehicle moves, as range images of both returns."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.synthetic.formats.waymo.labels import OF_KIND, ground_classes
from core.synthetic.formats.waymo.sensors import TURN_SECONDS
from core.synthetic.ground import GROUND_REFLECTIVITY
from core.synthetic.lidar import heard, trace
from core.synthetic.raycast import GROUND, SKY, turn
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
            reach[echo][:, columns], hit[echo][:, columns] = trace(
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
    cells = scene.ground.cells(origins + reach[..., None] * rays, hit == GROUND)
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
