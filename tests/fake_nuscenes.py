"""A tiny folder in nuScenes' format: two scenes, two key frames each, two sweeps in between, six small images."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from core.datasets.nuscenes.tables import CAMERAS, LIDAR

VERSION = "v1.0-mini"
SCENES = ("scene-0061", "scene-0103")  # one of mini_train, one of mini_val
SIZE = (64, 36)  # width, height
SWEEPS_PER_KEY_FRAME = 3
POINTS = 400

# camera axes in the ego frame: the camera looks along its z, x is to the right, y down
AZIMUTH = {
    "CAM_FRONT_LEFT": 60,
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -60,
    "CAM_BACK_LEFT": 120,
    "CAM_BACK": 180,
    "CAM_BACK_RIGHT": -120,
}


def write_fake_nuscenes(root: Path, seed: int = 0) -> Path:
    """Writes the data set and returns its root."""
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose")}
    tables.update(_sensors())
    tables["lidarseg"] = []
    for scene in SCENES:
        tables["scene"].append({"token": f"T{scene}", "name": scene})
        _write_scene(root, scene, tables, rng)
    folder = root / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return root


def _sensors() -> dict[str, list[dict[str, Any]]]:
    sensor = [{"token": f"S{name}", "channel": name} for name in (LIDAR, *CAMERAS, "RADAR_FRONT")]
    calibration = [_calibration(LIDAR, [0.9, 0.0, 1.8], [np.cos(-np.pi / 4), 0, 0, np.sin(-np.pi / 4)], [])]
    calibration.append(_calibration("RADAR_FRONT", [3.4, 0.0, 0.5], [1, 0, 0, 0], []))
    focal = SIZE[0] / 2 / np.tan(np.radians(35))
    intrinsic = [[focal, 0, SIZE[0] / 2], [0, focal, SIZE[1] / 2], [0, 0, 1]]
    for name in CAMERAS:
        half = np.radians(AZIMUTH[name]) / 2
        turn = np.array([np.cos(half), 0, 0, np.sin(half)])
        rotation = quaternion_product(turn, np.array([0.5, -0.5, 0.5, -0.5]))
        calibration.append(_calibration(name, [1.0, 0.1, 1.5], rotation.tolist(), intrinsic))
    return {"sensor": sensor, "calibrated_sensor": calibration}


def _calibration(name: str, translation: Any, rotation: Any, intrinsic: Any) -> dict[str, Any]:
    return {
        "token": f"C{name}",
        "sensor_token": f"S{name}",
        "translation": translation,
        "rotation": rotation,
        "camera_intrinsic": intrinsic,
    }


def quaternion_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Product of two quaternions (w, x, y, z)."""
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.concatenate([[w], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])])


def _write_scene(root: Path, scene: str, tables: dict[str, list[dict[str, Any]]], rng: np.random.Generator) -> None:
    previous = ""
    for step in range(SWEEPS_PER_KEY_FRAME + 1):
        key_frame = step % SWEEPS_PER_KEY_FRAME == 0
        sample = f"{scene}-sample{-(-step // SWEEPS_PER_KEY_FRAME)}"
        if key_frame:
            tables["sample"].append({"token": sample, "scene_token": f"T{scene}"})
        token = f"{scene}-lidar{step}"
        folder = "samples" if key_frame else "sweeps"
        path = f"{folder}/{LIDAR}/{token}.pcd.bin"
        points = rng.uniform((-15, -15, -3, 0, 0), (15, 15, 2, 255, 31), (POINTS, 5)).astype(np.float32)
        points[:, 4] = np.rint(points[:, 4])
        _write(root / path, points.tobytes())
        _add(tables, token, sample, LIDAR, path, key_frame, previous, float(step))
        previous = token
        if key_frame:
            label_path = f"lidarseg/{VERSION}/{token}_lidarseg.bin"
            _write(root / label_path, rng.integers(0, 32, POINTS).astype(np.uint8).tobytes())
            tables["lidarseg"].append({"token": token, "sample_data_token": token, "filename": label_path})
        for name in CAMERAS:
            image_token = f"{scene}-{name}{step}"
            image_path = f"{folder}/{name}/{image_token}.jpg"
            if key_frame:
                os.makedirs(root / f"samples/{name}", exist_ok=True)
                pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / image_path)
            _add(tables, image_token, sample, name, image_path, key_frame, "", step + 0.3)
        _add(tables, f"{scene}-radar{step}", sample, "RADAR_FRONT", "none.pcd", key_frame, "", float(step))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _add(
    tables: dict[str, list[dict[str, Any]]],
    token: str,
    sample: str,
    channel: str,
    path: str,
    key_frame: bool,
    previous: str,
    time: float,
) -> None:
    width, height = (0, 0) if channel == LIDAR else SIZE
    row: dict[str, Any] = {
        "token": token,
        "sample_token": sample,
        "ego_pose_token": f"E{token}",
        "filename": path,
        "prev": previous,
    }
    row |= {"calibrated_sensor_token": f"C{channel}", "is_key_frame": key_frame, "width": width, "height": height}
    tables["sample_data"].append(row)
    half = 0.05 * time
    rotation = [float(np.cos(half)), 0.0, 0.0, float(np.sin(half))]
    tables["ego_pose"].append(
        {"token": f"E{token}", "translation": [600.0 + 2.0 * time, 1600.0, 0.1 * time], "rotation": rotation}
    )
