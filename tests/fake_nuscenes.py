"""A tiny folder in nuScenes' format: two scenes, two key frames each, two sweeps in between, six small images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from core.datasets.nuscenes.tables import CAMERAS, LIDAR

VERSION = "v1.0-mini"
SCENES = ("scene-0061", "scene-0103")  # one of mini_train, one of mini_val
SIZE = (64, 36)  # width, height
SWEEPS_PER_KEY_FRAME = 3
POINTS = 400
RADAR = "RADAR_FRONT"
FOCAL = SIZE[0] / 2 / np.tan(np.radians(35))
INTRINSIC = [[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]]
AHEAD = Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # a camera looks along its z; x to the right, y down
AZIMUTH = {
    "CAM_FRONT_LEFT": 60,
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -60,
    "CAM_BACK_LEFT": 120,
    "CAM_BACK": 180,
    "CAM_BACK_RIGHT": -120,
}
Tables = dict[str, list[dict[str, Any]]]


def write_fake_nuscenes(root: Path, seed: int = 0) -> Path:
    """Writes the data set and returns its root."""
    rng = np.random.default_rng(seed)
    tables: Tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "lidarseg")}
    tables["sensor"] = [{"token": f"S{name}", "channel": name} for name in (LIDAR, *CAMERAS, RADAR)]
    tables["calibrated_sensor"] = [
        _calibration(LIDAR, [0.9, 0.0, 1.8], turned(-90), []),
        _calibration(RADAR, [3.4, 0.0, 0.5], turned(0), []),
        *(_calibration(name, [1.0, 0.1, 1.5], turned(AZIMUTH[name]) * AHEAD, INTRINSIC) for name in CAMERAS),
    ]
    for scene in SCENES:
        tables["scene"].append({"token": f"T{scene}", "name": scene})
        for step in range(SWEEPS_PER_KEY_FRAME + 1):
            _write_step(root, scene, step, tables, rng)
    for name, rows in tables.items():
        _write(root / VERSION / f"{name}.json", json.dumps(rows).encode())
    return root


def turned(degrees: float) -> Rotation:
    """About z."""
    return Rotation.from_euler("z", degrees, degrees=True)


def quaternion(rotation: Rotation) -> list[float]:
    """(w, x, y, z)."""
    return np.roll(rotation.as_quat(), 1).tolist()


def _calibration(name: str, translation: Any, rotation: Rotation, intrinsic: Any) -> dict[str, Any]:
    row = {"token": f"C{name}", "sensor_token": f"S{name}", "translation": translation, "camera_intrinsic": intrinsic}
    return row | {"rotation": quaternion(rotation)}


def _write_step(root: Path, scene: str, step: int, tables: Tables, rng: np.random.Generator) -> None:
    """A sweep, or a key frame with its images and labels."""
    key_frame = step % SWEEPS_PER_KEY_FRAME == 0
    sample = f"{scene}-sample{-(-step // SWEEPS_PER_KEY_FRAME)}"
    folder = "samples" if key_frame else "sweeps"
    token = f"{scene}-lidar{step}"
    points = rng.uniform((-15, -15, -3, 0, 0), (15, 15, 2, 255, 31), (POINTS, 5)).astype(np.float32)
    points[:, 4] = np.rint(points[:, 4])
    path = f"{folder}/{LIDAR}/{token}.pcd.bin"
    _write(root / path, points.tobytes())
    _add(tables, token, sample, LIDAR, path, key_frame, step, f"{scene}-lidar{step - 1}" if step else "")
    if key_frame:
        tables["sample"].append({"token": sample, "scene_token": f"T{scene}"})
        label_path = f"lidarseg/{VERSION}/{token}_lidarseg.bin"
        _write(root / label_path, rng.integers(0, 32, POINTS).astype(np.uint8).tobytes())
        tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": label_path})
    for name in CAMERAS:
        path = f"{folder}/{name}/{scene}-{name}{step}.jpg"
        if key_frame:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)).save(root / path)
        _add(tables, f"{scene}-{name}{step}", sample, name, path, key_frame, step + 0.3)
    _add(tables, f"{scene}-radar{step}", sample, RADAR, "none.pcd", key_frame, step)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _add(
    tables: Tables, token: str, sample: str, channel: str, path: str, key_frame: bool, time: float, prev=""
) -> None:
    """A file's row, and where the vehicle is then: it moves along x and turns to the left."""
    width, height = (0, 0) if channel == LIDAR else SIZE
    row = {"token": token, "sample_token": sample, "ego_pose_token": f"E{token}", "filename": path, "prev": prev}
    row |= {"calibrated_sensor_token": f"C{channel}", "is_key_frame": key_frame, "width": width, "height": height}
    tables["sample_data"].append(row)
    rotation = quaternion(Rotation.from_euler("z", 0.1 * time))
    place = [600.0 + 2.0 * time, 1600.0, 0.1 * time]
    tables["ego_pose"].append({"token": f"E{token}", "translation": place, "rotation": rotation})
