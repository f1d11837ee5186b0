"""Sensor files of one key frame, in nuScenes' formats."""

import json
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.files import write_atomic, write_json
from core.synthetic.camera import jpeg, photograph
from core.synthetic.labels import CATEGORIES
from core.synthetic.lidar import count_points, scan
from core.synthetic.scene import Scene, make_scene
from core.synthetic.sensors import Rig, nuscenes_rig
from core.synthetic.timeline import camera_shot, lidar_shots

RECORDS = "city_frames"  # folder of one small file a key frame, written when its other files are


@dataclass(frozen=True)
class City:
    """What a made-up city depends on, file by file."""

    train_scenes: int
    val_scenes: int
    test_scenes: int
    frames: int  # key frames a scene
    azimuth_steps: int  # of a LiDAR turn
    image_size: tuple[int, int]  # height, width
    seed: int

    def rig(self) -> Rig:
        """The sensors."""
        return nuscenes_rig(self.azimuth_steps, self.image_size)

    def scene(self, name: str) -> Scene:
        """The scene of that name."""
        return make_scene(self.seed, name, self.frames)


def label_filename(token: str) -> str:
    """Path of a key frame's labels below the data root."""
    return f"lidarseg/v1.0-trainval/{token}_lidarseg.bin"


def record_path(root: str, scene: str, frame: int) -> str:
    """Where a key frame's record lies."""
    return os.path.join(root, RECORDS, f"{scene}_{frame:03d}.json")


def read_record(root: str, scene: str, frame: int) -> dict[str, Any] | None:
    """The record of a key frame, or None where it or any of its files is missing or cut short."""
    try:
        with open(record_path(root, scene, frame)) as file:
            record: dict[str, Any] = json.load(file)
        whole = all(os.path.getsize(os.path.join(root, name)) == size for name, size in record["files"].items())
    except (OSError, ValueError):
        return None
    return record if whole else None


def write_frame(root: str, city: City, name: str, frame: int, labelled: bool) -> None:
    """Writes the LiDAR sweeps that lead to a key frame, its scan, labels and images, and last its record.

    Args:
        root: data root.
        city: what to make.
        name: of the scene.
        frame: number of the key frame within the scene, from 0.
        labelled: whether to write the labels (not for test scenes).
    """
    scene, rig = city.scene(name), city.rig()
    files: dict[str, bytes] = {}
    for shot in lidar_shots(name, frame):
        found = scan(scene, rig.lidar, shot.time, shot.rng(city.seed))
        files[shot.filename(city.seed)] = found.points.tobytes()
    if labelled:  # the loop ended with the key frame
        files[label_filename(shot.token(city.seed))] = found.labels.tobytes()
    shadow = scene.ground.shadows(scene.solids, scene.solids.centers(shot.time), scene.weather.sun)
    for camera in rig.cameras:
        view = camera_shot(name, frame, camera.channel, camera.delay)
        image = photograph(scene, camera, view.time, shadow, view.rng(city.seed))
        files[view.filename(city.seed)] = jpeg(image)
    for filename, content in files.items():
        with write_atomic(os.path.join(root, filename)) as file:
            file.write(content)
    record = {
        "files": {filename: len(content) for filename, content in files.items()},
        "things": count_points(found, scene).tolist(),
        "labels": np.bincount(found.labels, minlength=len(CATEGORIES)).tolist(),
    }
    write_json(record_path(root, name, frame), record)
