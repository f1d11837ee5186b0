"""One sequence's folder: scans, calibration, poses, image sizes."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.reading import check_there, image_size, write_index
from core.errors import UserError
from core.running.files import absent_files, why_absent

SPLITS = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": tuple(f"{number:02d}" for number in range(11, 22)),
}
COUNTS = dict(
    zip(
        (f"{number:02d}" for number in range(22)),
        (4541, 1101, 4661, 801, 271, 2761, 1101, 1101, 4071, 1591, 1201)
        + (921, 1061, 3281, 631, 1901, 1731, 491, 1801, 4981, 831, 2721),
        strict=True,
    )
)
"""Scans of each whole sequence."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Of one sequence.

    Attributes:
        lidar_to_camera: float64 [4, 4], `Tr`; homogeneous point (m) in the LiDAR frame -> rectified camera 0.
        lidar_to_image: float64 [4, 4], P2 · Tr: -> (u * d, v * d, d, 1) in image_2, see `CameraView`.
    """

    lidar_to_camera: NDArray[np.float64]
    lidar_to_image: NDArray[np.float64]


def read_calibration(folder: str) -> Calibration:
    """Reads P2 and Tr of calib.txt. Raises UserError: the file or one of them is missing or broken."""
    path = os.path.join(folder, "calib.txt")
    rows = dict(line.split(":", 1) for line in _read_lines(path, "data_odometry_calib.zip") if ":" in line)
    matrices = {name: _matrices([rows.get(name, "")]) for name in ("P2", "Tr")}
    for name, matrix in matrices.items():
        if matrix is None:
            raise UserError(f"{path}: expected {name} with 12 numbers: unpack data_odometry_calib.zip again")
    p2, tr = (matrix[0] for matrix in matrices.values() if matrix is not None)
    return Calibration(tr, p2 @ tr)


def read_poses(folder: str, scans: Sequence[str]) -> NDArray[np.float64]:
    """Reads poses.txt: float64 [F, 4, 4], camera 0 at each of the F scans -> camera 0 at the first line's scan (m).

    A scan's line is the one of its number, or of its place where the file has as many lines as there are scans.

    Raises UserError: the file is missing, broken or of another number of scans.
    """
    path = os.path.join(folder, "poses.txt")
    poses = _matrices(_read_lines(path, "data_odometry_labels.zip, which holds poses.txt,"))
    numbers = [int(scan) for scan in scans if scan.isdecimal()]
    if poses is not None and len(numbers) == len(scans) and max(numbers, default=0) < len(poses):
        return poses[numbers]
    if poses is None or len(poses) != len(scans):
        found = "a line of something else" if poses is None else len(poses)
        raise UserError(
            f"{path}: expected {len(scans)} lines of 12 numbers, as many as scans in velodyne, found {found}: unpack "
            "it again, or set dataset.num_sweeps to 0, which needs no poses"
        )
    return poses


def check_scans(folder: str, scans: Sequence[str]) -> None:
    """Raises UserError where images or times.txt tell of scans that are not there."""
    again = "unpack data_odometry_velodyne.zip again, or set dataset.frames to available"
    images, path = _names(os.path.join(folder, "image_2"), ".png"), os.path.join(folder, "times.txt")
    missing = sorted(set(images) - set(scans))
    if missing:
        first = os.path.join(folder, "velodyne", f"{missing[0]}.bin")
        raise UserError(
            f"LiDAR file {first} is missing, and {len(missing)} of the {len(images)} scans that have an image: {again}"
        )
    if os.path.exists(path):
        listed = sum(bool(line.strip()) for line in _read_lines(path, "data_odometry_calib.zip"))
        if listed != len(scans):
            raise UserError(
                f"{path} lists {listed} scans, {os.path.join(folder, 'velodyne')} has {len(scans)}: {again}"
            )


def list_scans(folder: str, available: bool = False) -> list[str]:
    """Names of the scans, e.g. "000000", in the order of their numbers; none where there is no folder velodyne.

    Args:
        available: only those that have an image.
    """
    scans = _names(os.path.join(folder, "velodyne"), ".bin")
    if available:
        files = {
            scan: (os.path.join(folder, "velodyne", f"{scan}.bin"), os.path.join(folder, "image_2", f"{scan}.png"))
            for scan in scans
        }
        absent = frozenset(absent_files(path for pair in files.values() for path in pair))
        scans = [scan for scan, pair in files.items() if absent.isdisjoint(pair)]
    return sorted(scans, key=lambda scan: (0, int(scan), scan) if scan.isdecimal() else (1, 0, scan))


def _names(folder: str, suffix: str) -> list[str]:
    """Names without their suffix of the files in a folder that have it; none where there is no folder."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")]


def index_file(index_path: str, folder: str) -> str:
    """Where the image sizes of a sequence's folder are kept."""
    return os.path.join(index_path, f"{os.path.basename(folder)}.npz")


def image_sizes(folder: str, scans: Sequence[str], index_path: str) -> NDArray[np.int32]:
    """Width and height of each scan's image: int32 [F, 2].

    The images' headers are read once and their sizes kept in `index_path`; again where images come or go.

    Raises UserError: an image is missing or broken, or `index_path` cannot be written.
    """
    images = os.path.join(folder, "image_2")
    if not os.path.isdir(images):
        hint = "unpack KITTI odometry's colour images (data_odometry_color.zip) over the data root"
        raise UserError(f"camera image folder {images} {why_absent(images)}: {hint}")
    path = index_file(index_path, folder)
    state = np.array([zlib.crc32("\n".join(scans).encode()), os.stat(images).st_mtime_ns])
    try:
        with np.load(path, allow_pickle=False) as archive:
            if np.array_equal(archive["state"], state):
                return archive["size"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        pass
    logger.info(f'Index "{path}" of the images in {images}: building it, once.')
    paths = [os.path.join(images, f"{scan}.png") for scan in scans]
    mend = "unpack data_odometry_color.zip again"
    check_there("camera image", paths, mend)
    size = np.array([image_size(path, mend) for path in paths], np.int32).reshape(-1, 2)
    write_index(path, {"state": state, "size": size})
    return size


def _read_lines(path: str, archive: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        raise UserError(f"{path} is missing: unpack {archive} over the data root") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}): unpack {archive} over the data root") from None


def _matrices(lines: Sequence[str]) -> NDArray[np.float64] | None:
    """float64 [n, 4, 4] of lines of 12 numbers (rows 1 to 3), empty ones left out; None where one is none."""
    try:
        numbers = np.array([line.split() for line in lines if line.strip()], np.float64)
    except ValueError:
        return None
    if numbers.ndim != 2 or numbers.shape[1] != 12 or not np.isfinite(numbers).all():
        return None
    matrices = np.tile(np.eye(4), (len(numbers), 1, 1))
    matrices[:, :3] = numbers.reshape(-1, 3, 4)
    return matrices
