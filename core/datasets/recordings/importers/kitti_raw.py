"""KITTI raw, synchronised and rectified drives: velodyne_points, image_02 and image_03, poses from oxts."""

import glob
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from core.datasets.recordings.importers.writing import Item, Source, calibration_text, poses_text, read_file, times_text
from core.datasets.recordings.texts import matrix, read_rows, read_text
from core.errors import UserError

CAMERAS = ("image_02", "image_03")
_EARTH = 6378137.0  # m


def sources(source: str, options: Mapping[str, Any]) -> Iterator[Source]:
    """The drives of a day's folder, or one drive; the calibration lies in the day's folder.

    Raises UserError: there is no drive, or a file of one is missing or broken.
    """
    own = os.path.isdir(os.path.join(source, "velodyne_points"))
    drives = [source] if own else sorted(os.path.dirname(p) for p in glob.glob(f"{source}/*/velodyne_points"))
    if not drives:
        raise UserError(f"{source}: no KITTI drive (DRIVE/velodyne_points) in it; give the folder of a day, or a drive")
    for drive in drives:
        stems = sorted(
            os.path.splitext(os.path.basename(p))[0] for p in glob.glob(f"{drive}/velodyne_points/data/*.bin")
        )
        if not stems:
            raise UserError(f"{drive}/velodyne_points/data: no point cloud (*.bin) in it; unpack the drive again")
        cameras = [name for name in CAMERAS if glob.glob(f"{drive}/{name}/data/*.png")]
        total = len(stems) * (1 + len(cameras)) + 3
        name = os.path.basename(os.path.abspath(drive))
        yield Source(name, total, _items(drive, stems, cameras), {"from": "kitti-raw"})


def _items(drive: str, stems: list[str], cameras: list[str]) -> Iterator[Item]:
    for stem in stems:
        yield Item(f"lidar/{stem}.bin", partial(read_file, f"{drive}/velodyne_points/data/{stem}.bin"))
        for name in cameras:
            path = f"{drive}/{name}/data/{stem}.png"
            if os.path.exists(path):
                yield Item(f"cameras/{name}/{stem}.png", partial(read_file, path))
    times = _times(f"{drive}/velodyne_points/timestamps.txt")
    if len(times) == len(stems):  # some drives lack a few clouds
        yield Item("times.txt", partial(times_text, times))
    day = os.path.dirname(os.path.abspath(drive))
    yield Item("calibration.yaml", partial(_calibration, day, cameras))
    if os.path.isdir(f"{drive}/oxts/data"):
        yield Item("poses.txt", lambda: poses_text(_poses(drive, day, stems)))


def _rigid(path: str) -> NDArray[np.float64]:
    rows = read_rows(path)
    if "R" not in rows or "T" not in rows:
        raise UserError(f"{path}: expected R and T; unpack the calibration of the day again")
    found = np.eye(4)
    found[:3, :3], found[:3, 3] = matrix(f"{path}: R", rows["R"], (9,)).reshape(3, 3), matrix(path, rows["T"], (3,))
    return found


def _calibration(day: str, cameras: list[str]) -> bytes:
    """The rectified cameras: their shift from camera 0, which is in P, goes into the extrinsics."""
    path = f"{day}/calib_cam_to_cam.txt"
    rows, rectify = read_rows(path), np.eye(4)
    rectify[:3, :3] = matrix(f"{path}: R_rect_00", rows.get("R_rect_00", []), (9,)).reshape(3, 3)
    to_camera_0 = rectify @ _rigid(f"{day}/calib_velo_to_cam.txt")
    blocks = {}
    for name in cameras:
        key = f"P_rect_{name[-2:]}"
        p = matrix(f"{path}: {key}", rows.get(key, []), (12,)).reshape(3, 4)
        to_camera = to_camera_0.copy()
        to_camera[:3, 3] += np.linalg.solve(p[:, :3], p[:, 3])
        blocks[name] = {"intrinsics": p[:, :3].tolist(), "lidar_to_camera": to_camera[:3].tolist()}
    return calibration_text(blocks)


def _times(path: str) -> list[float]:
    """Seconds since 1970 of lines such as 2011-09-26 13:02:25.964389445."""
    if not os.path.exists(path):
        return []
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    try:
        return [datetime.fromisoformat(line[:26] + "+00:00").timestamp() for line in lines]
    except ValueError as error:
        raise UserError(f"{path}: {error}; unpack the drive again") from None


def _poses(drive: str, day: str, stems: list[str]) -> list[NDArray[np.float64]]:
    """LiDAR -> world, from latitude and longitude by Mercator's projection, and from roll, pitch and yaw."""
    lidar_to_imu = np.linalg.inv(_rigid(f"{day}/calib_imu_to_velo.txt"))
    poses: list[NDArray[np.float64]] = []
    scale, origin = None, np.zeros(3)
    for stem in stems:
        path = f"{drive}/oxts/data/{stem}.txt"
        lat, lon, alt, roll, pitch, yaw = matrix(path, read_text(path).split()[:6], (6,))
        scale = np.cos(np.radians(lat)) if scale is None else scale
        north = np.log(np.tan(np.pi * (90 + lat) / 360))
        place = np.array([scale * np.radians(lon) * _EARTH, scale * _EARTH * north, alt])
        origin = place if not poses else origin
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_euler("ZYX", [yaw, pitch, roll]).as_matrix()
        pose[:3, 3] = place - origin
        poses.append(pose @ lidar_to_imu)
    return poses
