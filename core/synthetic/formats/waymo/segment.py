"""The files of one segment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo import components as c
from core.datasets.waymo.classes import CLASSES, THINGS
from core.synthetic.camera import jpeg, photograph
from core.synthetic.formats.waymo.parquet import Column, component_file, images, transforms
from core.synthetic.formats.waymo.projection import camera_projection
from core.synthetic.formats.waymo.sensors import TURN_SECONDS
from core.synthetic.formats.waymo.turn import Echo, RangeImages, measure_moving
from core.synthetic.scene import KEY_FRAME_SECONDS, Scene
from core.synthetic.sensors import CAMERA_AXES, Rig

Table = tuple[Sequence[tuple[int, ...]], dict[str, Column]]
"""Keys of the rows, and columns."""
_MICRO = 1_000_000


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


def segment_files(
    scene: Scene, rig: Rig, shots: list[Shot], labelled: bool, seed: int
) -> tuple[dict[str, bytes], NDArray[np.int64]]:
    """The files of all components of a segment; key frames have images and, where `labelled`, labels.

    Returns {component: content}; int64 [C], points of each class in the key frames.
    """
    turns = [
        measure_moving(scene, rig.lidar, shot.time, np.random.default_rng([seed, shot.timestamp])) for shot in shots
    ]
    both = [(turn.first, turn.second) for turn in turns]
    keyed = [(echoes, shot) for echoes, shot in zip(both, shots, strict=True) if shot.is_key]
    top = [(shot.timestamp, c.TOP) for shot in shots]
    poses = [scene.to_world @ scene.vehicle_pose(shot.time) for shot in shots]
    pixels = [
        [camera_projection(scene, rig.cameras, echo, shot.time) for echo in echoes]
        for echoes, shot in zip(both, shots, strict=True)
    ]
    tables: dict[str, Table] = {
        c.LIDAR: (top, images([[_range_image(echo) for echo in echoes] for echoes in both])),
        c.POSE: (top, images([[_pose_image(scene, turn)] for turn in turns])),
        c.PROJECTION: (top, images(pixels)),
        c.VEHICLE_POSE: ([(shot.timestamp,) for shot in shots], {"world_from_vehicle.transform": transforms(poses)}),
        c.IMAGE: _image_table(scene, rig, [shot for _, shot in keyed], seed),
        c.LIDAR_CALIBRATION: _lidar_calibration(rig),
        c.CAMERA_CALIBRATION: _camera_calibration(rig),
    }
    if labelled:
        labels = [[_label_image(echo) for echo in echoes] for echoes, _ in keyed]
        tables[c.LABELS] = ([(shot.timestamp, c.TOP) for _, shot in keyed], images(labels))
    files = {name: component_file(name, scene.name, keys, columns) for name, (keys, columns) in tables.items()}
    classes = [echo.classes[echo.distance > 0] for echoes, _ in keyed for echo in echoes]
    return files, np.bincount(np.concatenate(classes), minlength=CLASSES.num_classes)


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


def _image_table(scene: Scene, rig: Rig, shots: list[Shot], seed: int) -> Table:
    keys, contents, poses = [], [], []
    for shot in shots:
        shadow = scene.shadows(shot.time)
        for number, camera in enumerate(rig.cameras, 1):
            time = shot.time + camera.delay / _MICRO
            rng = np.random.default_rng([seed, shot.timestamp, number])
            contents.append(jpeg(photograph(scene, camera, time, shadow, rng)))
            poses.append(scene.to_world @ scene.vehicle_pose(time))
            keys.append((shot.timestamp, number))
    return keys, {"image": (contents, "binary"), "pose.transform": transforms(poses)}


def _lidar_calibration(rig: Rig) -> Table:
    lowest_first = rig.lidar.elevations[::-1].tolist()
    columns: dict[str, Column] = {
        "extrinsic.transform": transforms([rig.lidar.to_vehicle]),
        "beam_inclination.min": (lowest_first[:1], "float64"),
        "beam_inclination.max": (lowest_first[-1:], "float64"),
        "beam_inclination.values": ([lowest_first], "float64[]"),
    }
    return [(c.TOP,)], columns


def _camera_calibration(rig: Rig) -> Table:
    cameras = rig.cameras
    columns: dict[str, Column] = {}
    for name, place in (("f_u", (0, 0)), ("f_v", (1, 1)), ("c_u", (0, 2)), ("c_v", (1, 2))):
        columns[f"intrinsic.{name}"] = ([float(camera.intrinsic[place]) for camera in cameras], "float64")
    for name in ("k1", "k2", "p1", "p2", "k3"):  # nothing is distorted
        columns[f"intrinsic.{name}"] = ([0.0] * len(cameras), "float64")
    axes = np.eye(4)
    axes[:3, :3] = CAMERA_AXES.T  # Waymo's camera frame is x ahead, y left, z up
    columns["extrinsic.transform"] = transforms([camera.to_vehicle @ axes for camera in cameras])
    columns["width"] = ([camera.width for camera in cameras], "int32")
    columns["height"] = ([camera.height for camera in cameras], "int32")
    return [(number,) for number in range(1, len(cameras) + 1)], columns
