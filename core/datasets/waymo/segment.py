"""Where the frames of one segment lie in its files, and its calibration."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.components import (
    CAMERA,
    CAMERA_CALIBRATION,
    IMAGE,
    KEYS,
    LABELS,
    LASER,
    LIDAR,
    LIDAR_CALIBRATION,
    POSE,
    PROJECTION,
    SEGMENT,
    TIME,
    TOP,
    VEHICLE_POSE,
    ParquetFiles,
    again,
    column,
    component_path,
)
from core.errors import UserError

CAMERAS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")
"""In the order of camera_name, 1..5; where two see a point, the later one counts."""
ROWS_OF = (LIDAR, POSE, PROJECTION, LABELS)
"""What a frame's rows are listed of."""

Arrays = dict[str, NDArray[Any]]
Rows = dict[tuple[int, int], int]  # (timestamp, laser or camera) -> row of the file


@dataclass(frozen=True)
class SegmentFiles:
    """The files of a segment: data root, folder of the split, name."""

    root: str
    folder: str
    name: str

    def path(self, component: str) -> str:
        """The file of a component."""
        return component_path(self.root, self.folder, component, self.name)


def read_segment(segment: SegmentFiles, number: int, wanted: Sequence[int] | None) -> Arrays:
    """The part of the index that one segment, the `number`th, fills.

    With F frames, L turns of the TOP LiDAR (labelled or not) and K = 5 cameras, in the order of time:

    - segment: bytes [1], name; extrinsic float64 [1, 4, 4], sensor -> vehicle; inclination float64 [1, H], as in the
      file, NaN where it has none; inclination_limits float64 [1, 2]; camera_size int32 [1, K, 2], width and height
    - frame_segment int32 [F], timestamp int64 [F], scan int64 [F] (its turn); rows int32 [F, 4] and camera_rows
      int32 [F, K]: rows in the files of ROWS_OF (-1: no labels) and of the images; pose float64 [F, 4, 4], vehicle ->
      world
    - scan_segment int32 [L], scan_rows int32 [L, 2] (range image, pose), scan_pose float64 [L, 4, 4]

    Args:
        wanted: timestamps of the frames; None: those with labels.
    Raises UserError: a file is broken, or the keys of two do not join.
    """
    files = ParquetFiles()
    rows = {component: _rows(files, segment, component) for component in (LIDAR, POSE, PROJECTION, IMAGE)}
    labels = _rows(files, segment, LABELS) if wanted is None else {}
    times = _labelled(segment, labels) if wanted is None else list(wanted)
    poses = _vehicle_poses(files, segment)

    source = segment.path(LABELS) if wanted is None else "dataset.test_frames"
    for time in times:
        for component in (LIDAR, POSE, PROJECTION):
            _check_join(segment, component, (time, TOP) in rows[component], f"laser_name {TOP}, ", time, source)
        for camera in range(1, len(CAMERAS) + 1):
            has_image = (time, camera) in rows[IMAGE]
            _check_join(segment, IMAGE, has_image, f"camera_name {camera}, ", time, source)
        _check_join(segment, VEHICLE_POSE, time in poses, "", time, source)
    scans = sorted(time for time, laser in rows[LIDAR] if laser == TOP and (time, TOP) in rows[POSE] and time in poses)
    of_frames = [
        [*(rows[component][time, TOP] for component in ROWS_OF[:3]), labels.get((time, TOP), -1)] for time in times
    ]
    frames: Arrays = {
        "frame_segment": np.full(len(times), number, np.int32),
        "timestamp": np.array(times, np.int64),
        "scan": np.searchsorted(scans, times),
        "rows": np.array(of_frames, np.int32),
        "camera_rows": np.array([[rows[IMAGE][time, c + 1] for c in range(len(CAMERAS))] for time in times], np.int32),
        "pose": np.array([poses[time] for time in times]),
        "scan_segment": np.full(len(scans), number, np.int32),
        "scan_rows": np.array([[rows[LIDAR][time, TOP], rows[POSE][time, TOP]] for time in scans], np.int32),
        "scan_pose": np.array([poses[time] for time in scans]),
    }
    return {"segment": np.array([segment.name.encode()]), **_calibration(files, segment), **frames}


def _rows(files: ParquetFiles, segment: SegmentFiles, component: str) -> Rows:
    """The row of each timestamp and sensor of a component."""
    path = segment.path(component)
    keys = files.table(path, component, KEYS[component])
    names = set(keys[SEGMENT])
    if names - {segment.name}:
        raise UserError(f"{path}: holds segment {min(names - {segment.name})}; {again(component)}")
    sensors = keys[LASER if LASER in keys else CAMERA]
    return {key: row for row, key in enumerate(zip(keys[TIME], sensors, strict=True))}


def _labelled(segment: SegmentFiles, labels: Rows) -> list[int]:
    times = sorted(time for time, laser in labels if laser == TOP)
    if not times:
        hint = f"{again(LABELS)}, or remove the segment's files"
        raise UserError(f"{segment.path(LABELS)}: no labelled frame of the TOP LiDAR; {hint}")
    return times


def _check_join(segment: SegmentFiles, component: str, found: bool, sensor: str, time: int, source: str) -> None:
    if not found:
        raise UserError(
            f"{segment.path(component)}: no row with {sensor}frame_timestamp_micros {time}, which {source} has; "
            f"{again(component)}"
        )


def _vehicle_poses(files: ParquetFiles, segment: SegmentFiles) -> dict[int, NDArray[np.float64]]:
    """Vehicle -> world [4, 4] of each timestamp."""
    path, transform = segment.path(VEHICLE_POSE), column(VEHICLE_POSE, "world_from_vehicle.transform")
    table = files.table(path, VEHICLE_POSE, [TIME, transform])
    return {
        time: _matrix(values, path, VEHICLE_POSE) for time, values in zip(table[TIME], table[transform], strict=True)
    }


def _calibration(files: ParquetFiles, segment: SegmentFiles) -> Arrays:
    path = segment.path(LIDAR_CALIBRATION)
    fields = ("extrinsic.transform", "beam_inclination.values", "beam_inclination.min", "beam_inclination.max")
    names = [column(LIDAR_CALIBRATION, field) for field in fields]
    table = files.table(path, LIDAR_CALIBRATION, [LASER, *names])
    if TOP not in table[LASER]:
        raise UserError(f"{path}: no row with laser_name {TOP}; {again(LIDAR_CALIBRATION)}")
    extrinsic, inclination, lowest, highest = (table[name][table[LASER].index(TOP)] for name in names)
    return {
        "extrinsic": _matrix(extrinsic, path, LIDAR_CALIBRATION)[None],
        "inclination": np.array([inclination or []], np.float64),
        "inclination_limits": np.array([[lowest, highest]], np.float64),
        "camera_size": _camera_sizes(files, segment)[None],
    }


def _camera_sizes(files: ParquetFiles, segment: SegmentFiles) -> NDArray[np.int32]:
    path = segment.path(CAMERA_CALIBRATION)
    width, height = column(CAMERA_CALIBRATION, "width"), column(CAMERA_CALIBRATION, "height")
    table = files.table(path, CAMERA_CALIBRATION, [CAMERA, width, height])
    sizes = dict(zip(table[CAMERA], zip(table[width], table[height], strict=True), strict=True))
    absent = [camera for camera in range(1, len(CAMERAS) + 1) if camera not in sizes]
    if absent:
        raise UserError(f"{path}: no row with camera_name {absent[0]}; {again(CAMERA_CALIBRATION)}")
    return np.array([sizes[camera] for camera in range(1, len(CAMERAS) + 1)], np.int32)


def _matrix(values: Any, path: str, component: str) -> NDArray[np.float64]:
    if values is None or len(values) != 16 or not np.isfinite(np.array(values, np.float64)).all():
        raise UserError(f"{path}: a transform is not 16 finite numbers; {again(component)}")
    return np.array(values, np.float64).reshape(4, 4)
