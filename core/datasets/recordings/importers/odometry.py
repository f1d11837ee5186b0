"""Poses of recordings that have none, by KISS-ICP (Vizzo et al., RA-L 2023)."""

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.datasets.recordings.clouds import read_cloud
from core.datasets.recordings.importers.writing import poses_text
from core.datasets.recordings.recording import cloud_files
from core.errors import UserError
from core.running.files import write_atomic
from core.running.progress import progress


def write_poses(folder: str, columns: Sequence[str] = ("x", "y", "z", "_")) -> None:
    """Writes poses.txt of a recording that has none: LiDAR -> LiDAR at the first cloud.

    Args:
        columns: of the point clouds, as `dataset.columns`.
    Raises UserError: kiss-icp is not installed, or a cloud is missing or broken.
    """
    path = os.path.join(folder, "poses.txt")
    if os.path.exists(path):
        print(f"{path}: is there already and stays")
        return
    try:
        from kiss_icp.config import load_config
        from kiss_icp.kiss_icp import KissICP
    except ImportError as error:
        raise UserError(f"--poses kiss-icp needs the package kiss-icp ({error}): pip install kiss-icp") from None
    config = load_config(None)
    config.data.deskew = False  # importers do not keep the time of each point
    config.mapping.voxel_size = config.data.max_range / 100.0
    odometry, poses = KissICP(config), []
    files = cloud_files(folder)
    if not files:
        raise UserError(f"{folder}: no point cloud in it; give the folder of a recording")
    for _, cloud in progress(files, len(files), f"{os.path.basename(folder)}: poses"):
        points: NDArray[np.float64] = read_cloud(cloud, columns).points[:, :3].astype(np.float64)
        odometry.register_frame(points, np.zeros(len(points)))
        poses.append(odometry.last_pose.copy())
    with write_atomic(path) as file:
        file.write(poses_text(poses))
