"""The files of one segment."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo import components as c
from core.datasets.waymo.classes import CLASSES, THINGS
from core.synthetic.camera import jpeg, photograph
from core.synthetic.scene import KEY_FRAME_SECONDS, Scene
from core.synthetic.sensors import Rig
from core.synthetic.waymo import parquet
from core.synthetic.waymo.projection import camera_projection
from core.synthetic.waymo.rig import CAMERA_AXES, TURN_SECONDS
from core.synthetic.waymo.turn import Echo, RangeImages, measure_moving

_MICRO = 1_000_000
_Write = Callable[[str, Sequence[tuple[int, ...]], dict[str, parquet.Column]], None]


@dataclass(frozen=True)
class Shot:
    """One turn of a segment: its timestamp (microseconds), seconds after the first key frame, whether it is one."""

    timestamp: int
    time: float
    is_key: bool


def segment_shots(start: int, frames: int, earlier: int) -> list[Shot]:
    """The turns of a segment in order: `frames` key frames, before each but the first `earlier` turns more.

    Args:
        start: timestamp of the first key frame, microseconds.
    """
    shots = []
    for frame in range(frames):
        for before in range(earlier if frame else 0, -1, -1):
            time = frame * KEY_FRAME_SECONDS - before * TURN_SECONDS
            shots.append(Shot(start + round(time * _MICRO), time, before == 0))
    return shots


def write_segment(
    root: str, folder: str, name: str, scene: Scene, rig: Rig, shots: list[Shot], labelled: bool, seed: int
) -> tuple[list[str], NDArray[np.int64]]:
    """Writes all components of a segment; key frames have images and, where `labelled`, labels.

    Returns:
        Paths below `root`; int64 [C], points of each class in the key frames.
    """
    written = []

    def write(component: str, keys: Sequence[tuple[int, ...]], columns: dict[str, parquet.Column]) -> None:
        written.append(parquet.write_component(root, folder, name, component, keys, columns))

    turns = [
        measure_moving(scene, rig.lidar, shot.time, np.random.default_rng([seed, shot.timestamp])) for shot in shots
    ]
    top = [(shot.timestamp, c.TOP) for shot in shots]
    write(c.LIDAR, top, parquet.images([(_range_image(turn.first), _range_image(turn.second)) for turn in turns]))
    write(c.POSE, top, parquet.images([(_pose_image(scene, turn),) for turn in turns]))
    pixels = [
        [camera_projection(scene, rig.cameras, echo, shot.time) for echo in (turn.first, turn.second)]
        for turn, shot in zip(turns, shots, strict=True)
    ]
    write(c.PROJECTION, top, parquet.images(pixels))
    keyed = [(turn, shot) for turn, shot in zip(turns, shots, strict=True) if shot.is_key]
    if labelled:
        labels = [[_label_image(echo) for echo in (turn.first, turn.second)] for turn, _ in keyed]
        write(c.LABELS, [(shot.timestamp, c.TOP) for _, shot in keyed], parquet.images(labels))
    _write_images(write, scene, rig, [shot for _, shot in keyed], seed)
    poses = [scene.to_world @ scene.vehicle_pose(shot.time) for shot in shots]
    times = [(shot.timestamp,) for shot in shots]
    write(c.VEHICLE_POSE, times, {"world_from_vehicle.transform": parquet.transforms(poses)})
    _write_calibration(write, rig)
    return written, _count(keyed)


def _range_image(echo: Echo) -> NDArray[np.float32]:
    """Range, intensity, elongation, and the flag of zones without boxes (there is none): float32 [H, W, 4]."""
    zone = np.full(echo.distance.shape, -1.0)
    return np.stack([echo.distance, echo.intensity, echo.elongation, zone], axis=-1).astype(np.float32)


def _pose_image(scene: Scene, turn: RangeImages) -> NDArray[np.float32]:
    """roll, pitch, yaw, x, y, z of the vehicle in the world at each cell's time: float32 [H, W, 6]."""
    world = scene.to_world @ turn.poses
    r = world[:, :3, :3]
    angles = np.arctan2(r[:, 2, 1], r[:, 2, 2]), np.arcsin(-r[:, 2, 0]), np.arctan2(r[:, 1, 0], r[:, 0, 0])
    columns = np.concatenate([np.stack(angles, axis=1), world[:, :3, 3]], axis=1)
    return np.broadcast_to(columns, (len(turn.first.distance), *columns.shape)).astype(np.float32)


def _label_image(echo: Echo) -> NDArray[np.int32]:
    """Instance (0: none) and class: int32 [H, W, 2]."""
    instances = np.where(np.isin(echo.classes, THINGS), echo.things + 1, 0)
    return np.stack([instances, echo.classes], axis=-1).astype(np.int32)


def _write_images(write: _Write, scene: Scene, rig: Rig, shots: list[Shot], seed: int) -> None:
    keys, contents, poses = [], [], []
    for shot in shots:
        shadow = scene.ground.shadows(scene.solids, scene.solids.centers(shot.time), scene.weather.sun)
        for number, camera in enumerate(rig.cameras, 1):
            time = shot.time + camera.delay / _MICRO
            rng = np.random.default_rng([seed, shot.timestamp, number])
            contents.append(jpeg(photograph(scene, camera, time, shadow, rng)))
            poses.append(scene.to_world @ scene.vehicle_pose(time))
            keys.append((shot.timestamp, number))
    columns = {"image": parquet.bytes_column(contents), "pose.transform": parquet.transforms(poses)}
    write(c.IMAGE, keys, columns)


def _write_calibration(write: _Write, rig: Rig) -> None:
    lowest_first = rig.lidar.elevations[::-1]
    write(
        c.LIDAR_CALIBRATION,
        [(c.TOP,)],
        {
            "extrinsic.transform": parquet.transforms([rig.lidar.to_vehicle]),
            "beam_inclination.min": parquet.numbers([lowest_first[0]]),
            "beam_inclination.max": parquet.numbers([lowest_first[-1]]),
            "beam_inclination.values": parquet.lists([lowest_first.tolist()]),
        },
    )
    cameras = rig.cameras
    intrinsics = np.stack([camera.intrinsic for camera in cameras])
    focal_and_center = zip(("f_u", "f_v", "c_u", "c_v"), ((0, 0), (1, 1), (0, 2), (1, 2)), strict=True)
    columns = {
        f"intrinsic.{name}": parquet.numbers(intrinsics[:, row, k].tolist()) for name, (row, k) in focal_and_center
    }
    # the cameras are without distortion; Waymo's camera frame looks along x
    columns |= {f"intrinsic.{name}": parquet.numbers([0.0] * len(cameras)) for name in ("k1", "k2", "p1", "p2", "k3")}
    axes = np.eye(4)
    axes[:3, :3] = CAMERA_AXES.T
    columns["extrinsic.transform"] = parquet.transforms([camera.to_vehicle @ axes for camera in cameras])
    columns["width"] = parquet.numbers([camera.width for camera in cameras], whole=True)
    columns["height"] = parquet.numbers([camera.height for camera in cameras], whole=True)
    write(c.CAMERA_CALIBRATION, [(number,) for number in range(1, len(cameras) + 1)], columns)


def _count(turns: list[tuple[RangeImages, Shot]]) -> NDArray[np.int64]:
    total = np.zeros(len(CLASSES.names), np.int64)
    for turn, _ in turns:
        for echo in (turn.first, turn.second):
            total += np.bincount(echo.classes[echo.distance > 0], minlength=len(total))
    return total
