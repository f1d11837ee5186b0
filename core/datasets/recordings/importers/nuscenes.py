"""Key frames of nuScenes: LiDAR, six cameras, poses, and labels where lidarseg is there."""

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import yaml

from core.datasets.nuscenes import CLASSES
from core.datasets.nuscenes.tables import CAMERAS, Tables, load_tables
from core.datasets.recordings.importers.writing import (
    Item,
    Source,
    calibration_text,
    cloud_bytes,
    label_bytes,
    poses_text,
    read_file,
)
from core.errors import UserError

COLUMNS = 5  # x, y, z, intensity, ring


def sources(source: str, options: Mapping[str, Any]) -> Iterator[Source]:
    """The scenes of a nuScenes root.

    Args:
        options: version.
    Raises UserError: the root lacks tables of that version.
    """
    tables = load_tables(source, options["version"])
    scenes: dict[str, list[str]] = {}
    for sample, scene in tables.samples:
        if sample in tables.lidar_of_sample and os.path.exists(_lidar_path(source, tables, sample)):
            scenes.setdefault(scene, []).append(sample)
    if not scenes:
        raise UserError(f"{source}: no LiDAR file of {options['version']} is there; unpack its archives")
    for scene, samples in scenes.items():
        total = len(samples) * (2 + len(CAMERAS)) + len(CAMERAS) + 2
        classes = _classes() if tables.label_of_lidar else None
        options = {"from": "nuscenes", "version": options["version"]}
        yield Source(scene, total, _items(source, tables, samples), options, classes)


def _lidar_path(root: str, tables: Tables, sample: str) -> str:
    return os.path.join(root, tables.sample_data[tables.lidar_of_sample[sample]].filename)


def _items(root: str, tables: Tables, samples: list[str]) -> Iterator[Item]:
    lidar = [tables.lidar_of_sample[sample] for sample in samples]
    pictures: dict[str, list[str]] = {name: [] for name in CAMERAS}
    for i, (sample, token) in enumerate(zip(samples, lidar, strict=True)):
        stem = f"{i:06d}"
        yield Item(f"lidar/{stem}.bin", partial(_cloud, _lidar_path(root, tables, sample)))
        if token in tables.label_of_lidar:
            yield Item(f"labels/{stem}.label", partial(_labels, os.path.join(root, tables.label_of_lidar[token])))
        for name in CAMERAS:
            camera = tables.camera_of_sample.get((sample, name))
            path = os.path.join(root, tables.sample_data[camera].filename) if camera else ""
            if camera and os.path.exists(path):
                pictures[name].append(camera)
                yield Item(f"cameras/{name}/{stem}.jpg", partial(read_file, path))
    lidar_to_world = tables.sensor_to_world(lidar)
    blocks = {}
    for name, tokens in pictures.items():
        if tokens:
            to_world = tables.sensor_to_world(tokens)
            yield Item(f"cameras/{name}/poses.txt", partial(poses_text, to_world))
            to_camera = np.linalg.inv(to_world[0]) @ lidar_to_world[0]
            intrinsic = tables.intrinsics(tokens[:1])[0, :3, :3]
            blocks[name] = {"intrinsics": intrinsic.tolist(), "lidar_to_camera": to_camera[:3].tolist()}
    yield Item("poses.txt", partial(poses_text, lidar_to_world))
    yield Item("calibration.yaml", partial(calibration_text, blocks))


def _cloud(path: str) -> bytes:
    data = read_file(path)
    if len(data) % (4 * COLUMNS):
        raise UserError(f"{path}: {len(data)} bytes are no rows of {COLUMNS} float32; unpack its archive again")
    return cloud_bytes(np.frombuffer(data, "<f4").reshape(-1, COLUMNS)[:, :4])


def _labels(path: str) -> bytes:
    return label_bytes(np.frombuffer(read_file(path), np.uint8))


def _classes() -> str:
    """nuScenes' 16 classes over its 32 fine ones."""
    raw = [[int(r) for r in np.flatnonzero(CLASSES.from_raw[:32] == c)] for c in range(CLASSES.num_classes)]
    grounds = ("driveable_surface", "other_flat", "sidewalk", "terrain")
    rows: list[dict[str, Any]] = []
    for c, name in enumerate(CLASSES.names[1:], 1):
        row: dict[str, Any] = {"name": name, "color": CLASSES.colors[c].tolist(), "raw": raw[c]}
        row |= {"thing": True} if c in CLASSES.things else {}
        rows.append(row | ({"ground": True} if name in grounds else {}))
    return yaml.safe_dump({"ignored": raw[0], "classes": rows}, sort_keys=False)
