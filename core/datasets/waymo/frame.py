"""Frames of Waymo Open: where their rows lie in the Parquet files, and the calibration of their segment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView, Frame, Sweep


@dataclass(frozen=True, eq=False)
class Turn:
    """One turn of the TOP LiDAR.

    Attributes:
        range_path, pose_path: files of its range images and of the pose of each of their cells.
        range_row, pose_row: rows in them.
        inclination: float64 [H], of the beams, lowest first, rad; None: evenly between the limits.
        inclination_limits: lowest and highest inclination, rad.
        extrinsic: float64 [4, 4], LiDAR -> vehicle.
        vehicle_to_world: float64 [4, 4], at the turn's timestamp.
    """

    range_path: str
    pose_path: str
    range_row: int
    pose_row: int
    inclination: NDArray[np.float64] | None
    inclination_limits: tuple[float, float]
    extrinsic: NDArray[np.float64]
    vehicle_to_world: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WaymoView(CameraView):
    """One camera image. `width` and `height` are those of the image as it is loaded, padded at the bottom; the data
    set's own projection of points stands for `lidar_to_image`, which is not a number anywhere.

    Attributes:
        row: row in the file of images, `image_path`.
        image_height: rows of the image without the padding.
    """

    row: int
    image_height: int


@dataclass(frozen=True, eq=False)
class WaymoSweep(Sweep):
    """An earlier turn of the TOP LiDAR."""

    turn: Turn


@dataclass(frozen=True, eq=False)
class WaymoFrame(Frame):
    """One turn of the TOP LiDAR with labels (in the test split: to be submitted), in the vehicle frame.

    Attributes:
        segment: its recording, key.segment_context_name.
        timestamp: its key.frame_timestamp_micros.
        turn: its rows of LiDAR data.
        projection_path, projection_row: file and row of the points' pixels.
        label_row: row of the labels in `label_path`; None in the test split.
    """

    segment: str
    timestamp: int
    turn: Turn
    projection_path: str
    projection_row: int
    label_row: int | None
