"""calibration.yaml of a recording, or KITTI's calib.txt."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from core.datasets.lens import MODELS
from core.datasets.recordings.texts import matrix, read_rows, read_text, rigid
from core.errors import UserError

FILE, KITTI_FILE = "calibration.yaml", "calib.txt"
_KNOWN = ("intrinsics", "distortion", "lidar_to_camera")


@dataclass(frozen=True, eq=False)
class CameraModel:
    """One camera of a recording.

    Attributes:
        intrinsic: float64 [3, 3], pixels; [3, 4] as P of KITTI, whose last column shifts the camera.
        lidar_to_camera: float64 [4, 4]; homogeneous point (m) in the LiDAR frame -> camera frame (x right, y down, z
            forward).
        model, coefficients: of the lens, see `core.datasets.lens`; "none" for a pinhole.
    """

    intrinsic: NDArray[np.float64]
    lidar_to_camera: NDArray[np.float64]
    model: str = "none"
    coefficients: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Calibration:
    """Attributes:
    cameras: by name, in the order that counts where several see a point: the last one does.
    lidar_to_poses: float64 [4, 4], from the LiDAR frame to the frame that poses.txt is of: camera 0 with KITTI's file.
    path: where it was read.
    """

    cameras: Mapping[str, CameraModel]
    lidar_to_poses: NDArray[np.float64]
    path: str


def read_calibration(folder: str) -> Calibration:
    """Reads the calibration of a recording; one without cameras where there is no file.

    Raises UserError: a file is broken, or holds a transform that is none.
    """
    path, kitti = os.path.join(folder, FILE), os.path.join(folder, KITTI_FILE)
    if os.path.exists(path):
        return Calibration(_read_yaml(path), np.eye(4), path)
    if os.path.exists(kitti):
        return _read_kitti(kitti)
    return Calibration({}, np.eye(4), path)


def _read_yaml(path: str) -> dict[str, CameraModel]:
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())}); mend it") from None
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict) or not all(isinstance(camera, dict) for camera in cameras.values()):
        raise UserError(f"{path}: expected 'cameras' with a block for each camera; see docs/recordings.md")
    return {str(name): _camera(f"{path}: cameras.{name}", camera) for name, camera in cameras.items()}


def _camera(where: str, camera: Mapping[str, Any]) -> CameraModel:
    for key in camera:
        if key not in _KNOWN:
            raise UserError(f"{where}: unknown key '{key}'; known are: {', '.join(_KNOWN)}")
    if "lidar_to_camera" not in camera or "intrinsics" not in camera:
        raise UserError(f"{where}: expected intrinsics and lidar_to_camera; see docs/recordings.md")
    model, coefficients = _lens(where, camera.get("distortion") or {"model": "none"})
    return CameraModel(
        _intrinsic(f"{where}.intrinsics", camera["intrinsics"]),
        rigid(f"{where}.lidar_to_camera", camera["lidar_to_camera"]),
        model,
        coefficients,
    )


def _intrinsic(where: str, value: Any) -> NDArray[np.float64]:
    numbers = matrix(where, value, (4, 9))
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        intrinsic = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    else:
        intrinsic = numbers.reshape(3, 3)
    if intrinsic[0, 0] <= 0 or intrinsic[1, 1] <= 0 or not np.array_equal(intrinsic[2], [0, 0, 1]):
        raise UserError(
            f"{where}: {value} is no camera matrix; expected [fx, fy, cx, cy] or three rows of three numbers"
        )
    return intrinsic


def _lens(where: str, value: Any) -> tuple[str, tuple[float, ...]]:
    model = value.get("model") if isinstance(value, dict) else None
    if model == "none":
        return "none", ()
    if model not in MODELS:
        raise UserError(f"{where}.distortion: model {model!r} is unknown; known are: none, {', '.join(MODELS)}")
    coefficients = matrix(f"{where}.distortion.coefficients", value.get("coefficients"), range(1, 15))
    if model == "plumb_bob" and len(coefficients) in (6, 7):
        coefficients = np.pad(coefficients, (0, 8 - len(coefficients)))
    if len(coefficients) not in MODELS[model]:
        wanted = " or ".join(map(str, MODELS[model]))
        raise UserError(f"{where}.distortion: {len(coefficients)} coefficients, {model} has {wanted}; mend them")
    return model, tuple(float(value) for value in coefficients)


def _read_kitti(path: str) -> Calibration:
    rows = read_rows(path)
    if "Tr" not in rows:
        raise UserError(f"{path}: expected Tr with 12 numbers, LiDAR -> camera 0; unpack KITTI's calibration again")
    lidar_to_camera_0 = rigid(f"{path}: Tr", rows["Tr"])
    cameras = {}
    for number in range(4):
        if f"P{number}" in rows:
            rectified = matrix(f"{path}: P{number}", rows[f"P{number}"], (12,)).reshape(3, 4)
            cameras[f"image_{number}"] = CameraModel(rectified, lidar_to_camera_0)
    return Calibration(cameras, lidar_to_camera_0, path)
