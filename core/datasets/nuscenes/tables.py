"""Reading the tables (JSON) of nuScenes that the index needs, without holding the rest in memory."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets.nuscenes.splits import official_scenes
from core.errors import UserError
from core.running.files import read_json

LIDAR = "LIDAR_TOP"
CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
TABLES = ("scene", "sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor")
LABEL_TABLE = "lidarseg"
SPLIT_TABLE = "splits"
"""splits.json, where there is one, lists the scenes of each split instead of nuscenes-devkit: for own scenes."""

BROKEN = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What tables with missing or misplaced values give rise to."""


class SampleData(NamedTuple):
    """What is needed of a row of sample_data; `size` is (width, height), `prev` the token before it or ""."""

    filename: str
    prev: str
    ego_pose: str
    calibration: str
    size: tuple[int, int]


class Pose(NamedTuple):
    """A rigid motion: translation (m) and quaternion (w, x, y, z); for a camera also its intrinsic matrix."""

    translation: Sequence[float]
    rotation: Sequence[float]
    intrinsic: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Tables:
    """The needed rows, by token.

    Attributes:
        samples: (sample token, scene name), in the order of the table.
        sample_data: every LIDAR_TOP sweep, and the key frames of the six cameras.
        lidar_of_sample, camera_of_sample: the key frame's sample_data token, by sample (and camera).
        label_of_lidar: file of labels, relative to the root, by sample_data token; empty without lidarseg.json.
        ego_pose, calibration: ego -> world, sensor -> ego.
    """

    samples: list[tuple[str, str]]
    sample_data: dict[str, SampleData]
    lidar_of_sample: dict[str, str]
    camera_of_sample: dict[tuple[str, str], str]
    label_of_lidar: dict[str, str]
    ego_pose: dict[str, Pose]
    calibration: dict[str, Pose]

    def sensor_to_world(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """float64 [n, 4, 4]: sensor -> world at the time of each sample_data token."""
        rows = [self.sample_data[token] for token in tokens]
        ego_to_world = pose_matrices([self.ego_pose[row.ego_pose] for row in rows])
        return ego_to_world @ pose_matrices([self.calibration[row.calibration] for row in rows])

    def intrinsics(self, tokens: Sequence[str]) -> NDArray[np.float64]:
        """float64 [n, 4, 4]: camera frame (m) -> (u * d, v * d, d, 1) of each camera sample_data token."""
        matrices = np.tile(np.eye(4), (len(tokens), 1, 1))
        values = [self.calibration[self.sample_data[token].calibration].intrinsic for token in tokens]
        matrices[:, :3, :3] = np.array(values, np.float64).reshape(-1, 3, 3)
        return matrices


def pose_matrices(poses: Sequence[Pose]) -> NDArray[np.float64]:
    """float64 [n, 4, 4] of n poses."""
    from scipy.spatial.transform import Rotation  # only the index needs it

    quaternion = np.array([pose.rotation for pose in poses], np.float64).reshape(-1, 4)
    usable = np.linalg.norm(quaternion, axis=1) > 0
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    matrices[~usable, :3, :3] = np.nan  # found later
    matrices[usable, :3, :3] = Rotation.from_quat(quaternion[usable][:, [1, 2, 3, 0]]).as_matrix()
    matrices[:, :3, 3] = np.array([pose.translation for pose in poses], np.float64).reshape(-1, 3)
    return matrices


def check_root(root: str, version: str) -> None:
    """Raises UserError where `root` is no folder or lacks the tables of `version`."""
    if not os.path.isdir(root):
        raise UserError(
            f"dataset.root {root} is not a folder: set it to the one with nuScenes' samples/, sweeps/ and {version}/"
        )
    if not os.path.isdir(os.path.join(root, version)):
        folders = sorted(os.listdir(root))
        versions = [name for name in folders if os.path.isfile(os.path.join(root, name, "sample.json"))]
        there = f"versions there: {', '.join(versions)}" if versions else "no version of nuScenes is there"
        raise UserError(f"dataset.root {root} has no tables of {version} ({there}): set dataset.version or unpack them")
    for table in TABLES:
        path = os.path.join(root, version, f"{table}.json")
        if not os.path.isfile(path):
            raise UserError(f"table {path} is missing: unpack the metadata of nuScenes {version} again")


def tables_digest(root: str, version: str) -> dict[str, list[int]]:
    """Size and time of change (ns) of each table's file: differs where the tables do."""
    digest = {}
    for table in (*TABLES, LABEL_TABLE, SPLIT_TABLE):
        path = os.path.join(root, version, f"{table}.json")
        if os.path.exists(path):
            status = os.stat(path)
            digest[table] = [status.st_size, status.st_mtime_ns]
    return digest


def scene_splits(root: str, version: str) -> dict[str, frozenset[str]]:
    """Names of the scenes in each split of a version, from its splits.json or else the official ones.

    Raises UserError: splits.json is broken.
    """
    path = os.path.join(root, version, f"{SPLIT_TABLE}.json")
    if os.path.isfile(path):
        return _own_splits(path)
    splits = official_scenes()
    if "mini" in version:
        names = {"train": "mini_train", "val": "mini_val"}
    elif "test" in version:
        names = {"test": "test"}
    else:
        names = {"train": "train", "val": "val"}
    return {split: frozenset(splits[name]) for split, name in names.items()}


def _own_splits(path: str) -> dict[str, frozenset[str]]:
    """The splits of {split: [names of scenes]}."""
    content = read_json(path, "write it again")
    lists = isinstance(content, dict) and all(isinstance(scenes, list) for scenes in content.values())
    if not lists or not all(isinstance(name, str) for scenes in content.values() for name in scenes):
        raise UserError(f'{path}: expected {{"train": [names of scenes], "val": [names of scenes]}}')
    return {split: frozenset(scenes) for split, scenes in content.items()}


def load_tables(root: str, version: str) -> Tables:
    """Loads what the index needs; rows that it doesn't are dropped as they are parsed.

    Raises UserError: a table is missing or broken.
    """
    check_root(root, version)
    folder = os.path.join(root, version)
    try:
        return _load_rows(folder)
    except BROKEN as error:
        what = f"the tables in {folder} are broken ({type(error).__name__}: {error})"
        raise UserError(f"{what}: unpack the metadata of {version} again") from None


def _load_rows(folder: str) -> Tables:
    scenes = {row["token"]: row["name"] for row in _load(folder, "scene")}
    samples = [(row["token"], scenes.get(row["scene_token"], "")) for row in _load(folder, "sample")]
    channels = {row["token"]: row["channel"] for row in _load(folder, "sensor")}
    channel_of, calibration = {}, {}
    for row in _load(folder, "calibrated_sensor"):
        channel_of[row["token"]] = channels.get(row["sensor_token"], "")
        calibration[row["token"]] = Pose(row["translation"], row["rotation"], row["camera_intrinsic"])

    sample_data: dict[str, SampleData] = {}
    lidar_of_sample: dict[str, str] = {}
    camera_of_sample: dict[tuple[str, str], str] = {}

    def keep_sample_data(row: dict[str, Any]) -> None:
        channel = channel_of.get(row["calibrated_sensor_token"], "")
        key_frame = row["is_key_frame"]
        if channel != LIDAR and not (key_frame and channel in CAMERAS):
            return
        size = (row.get("width") or 0, row.get("height") or 0)
        fields = (row["filename"], row["prev"], row["ego_pose_token"], row["calibrated_sensor_token"], size)
        sample_data[row["token"]] = SampleData(*fields)
        if key_frame and channel == LIDAR:
            lidar_of_sample[row["sample_token"]] = row["token"]
        elif key_frame:
            camera_of_sample[row["sample_token"], channel] = row["token"]

    _load(folder, "sample_data", keep_sample_data)
    wanted = {row.ego_pose for row in sample_data.values()}
    ego_pose: dict[str, Pose] = {}

    def keep_ego_pose(row: dict[str, Any]) -> None:
        if row["token"] in wanted:
            ego_pose[row["token"]] = Pose(row["translation"], row["rotation"])

    _load(folder, "ego_pose", keep_ego_pose)
    label_of_lidar = {}
    if os.path.isfile(os.path.join(folder, f"{LABEL_TABLE}.json")):
        label_of_lidar = {row["sample_data_token"]: row["filename"] for row in _load(folder, LABEL_TABLE)}
    return Tables(samples, sample_data, lidar_of_sample, camera_of_sample, label_of_lidar, ego_pose, calibration)


def check_sensors(folder: str, tables: Tables, samples: Sequence[str]) -> None:
    """Raises UserError for the first of `samples` without a key frame of the LiDAR or of a camera."""
    for sample in samples:
        lacking = [name for name in CAMERAS if (sample, name) not in tables.camera_of_sample]
        if sample not in tables.lidar_of_sample:
            lacking = [LIDAR, *lacking]
        if lacking:
            raise UserError(
                f"{folder}/sample_data.json: sample {sample} has no key frame of {', '.join(lacking)}; each sample "
                f"needs one of {LIDAR} and of the six cameras {', '.join(CAMERAS)} (the channels of sensor.json)"
            )


def _load(folder: str, table: str, keep: Callable[[dict[str, Any]], None] | None = None) -> Any:
    """Parses a table; with `keep`, hands over each row and keeps none."""
    path = os.path.join(folder, f"{table}.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file, object_hook=keep)
    except BROKEN as error:
        raise UserError(f"table {path} is broken ({error}): unpack the metadata of nuScenes again") from None
