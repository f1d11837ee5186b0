"""The Parquet files of Waymo Open v2: names of components and columns, and reading single rows of them."""

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

SEGMENT, TIME, LASER, CAMERA = (
    f"key.{name}" for name in ("segment_context_name", "frame_timestamp_micros", "laser_name", "camera_name")
)
TOP = 1  # laser_name of the LiDAR on the roof

LIDAR, POSE, PROJECTION, LABELS = "lidar", "lidar_pose", "lidar_camera_projection", "lidar_segmentation"
LIDAR_CALIBRATION, IMAGE, CAMERA_CALIBRATION = "lidar_calibration", "camera_image", "camera_calibration"
VEHICLE_POSE = "vehicle_pose"
COMPONENTS = (LIDAR, POSE, PROJECTION, LIDAR_CALIBRATION, IMAGE, CAMERA_CALIBRATION, VEHICLE_POSE, LABELS)
"""Folders of a split; each has one file per segment."""

_PREFIX = {
    LIDAR: "[LiDARComponent]",
    POSE: "[LiDARPoseComponent]",
    PROJECTION: "[LiDARCameraProjectionComponent]",
    LABELS: "[LiDARSegmentationLabelComponent]",
    LIDAR_CALIBRATION: "[LiDARCalibrationComponent]",
    IMAGE: "[CameraImageComponent]",
    CAMERA_CALIBRATION: "[CameraCalibrationComponent]",
    VEHICLE_POSE: "[VehiclePoseComponent]",
}
KEYS = {
    **dict.fromkeys((LIDAR, POSE, PROJECTION, LABELS), (SEGMENT, TIME, LASER)),
    LIDAR_CALIBRATION: (SEGMENT, LASER),
    IMAGE: (SEGMENT, TIME, CAMERA),
    CAMERA_CALIBRATION: (SEGMENT, CAMERA),
    VEHICLE_POSE: (SEGMENT, TIME),
}
BUFFER = 1 << 20  # bytes read at a time, so that rows of a large row group do not fill the memory
MOST_OPEN = 8


def column(component: str, field: str) -> str:
    """Full name of a component's column, e.g. "[LiDARComponent].range_image_return1.values"."""
    return f"{_PREFIX[component]}.{field}"


def image_columns(component: str, returns: Iterable[int] = (1, 2)) -> list[str]:
    """The columns of range images: values and shape of each return."""
    fields = (f"range_image_return{r}.{part}" for r in returns for part in ("values", "shape"))
    return [column(component, field) for field in fields]


class ParquetFiles:
    """Parquet files, of which only the asked-for columns and rows are read. Each row is a row group of its own.

    At most MOST_OPEN files stay open, those used last. A copy in another process opens its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": OrderedDict()}

    def table(self, path: str, component: str, names: Sequence[str]) -> dict[str, list[Any]]:
        """Some columns of all rows of a small file, as Python values. Raises UserError: as `row`."""
        with reading(path, component):
            return dict(self._file(path, component, names).read(columns=list(names), use_threads=False).to_pydict())

    def largest_group(self, path: str, component: str) -> int:
        """The most rows that stand in one row group."""
        with reading(path, component):
            metadata = self._file(path, component, ()).metadata
            return max((metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)), default=0)

    def column_bytes(self, path: str, component: str, names: Sequence[str]) -> tuple[int, int]:
        """The bytes that some columns take in the file, and the number of its rows."""
        with reading(path, component):
            metadata = self._file(path, component, names).metadata
            chunks = [
                metadata.row_group(g).column(c)
                for g in range(metadata.num_row_groups)
                for c in range(metadata.num_columns)
            ]
            wanted = tuple(f"{name}." for name in names)
            return sum(
                c.total_compressed_size for c in chunks if f"{c.path_in_schema}.".startswith(wanted)
            ), metadata.num_rows

    def row(self, path: str, component: str, row: int, names: Sequence[str]) -> list[Any]:
        """Some columns of one row: Arrow scalars, in the order of `names`.

        Raises UserError: the file is missing, damaged, lacks a column or the row.
        """
        with reading(path, component):
            table = self._file(path, component, names).read_row_group(row, columns=list(names), use_threads=False)
            return [table.column(name)[0] for name in names]

    def image(self, path: str, component: str, row: int, returns: Sequence[int] = (1, 2)) -> list[NDArray[Any]]:
        """The range images of one row, [H, W, C] each, one per return.

        Raises UserError: as `row`, or the values do not fill their shape.
        """
        cells = self.row(path, component, row, image_columns(component, returns))
        images = []
        for values, shape in zip(cells[::2], cells[1::2], strict=True):
            flat = np.zeros(0) if values.values is None else values.values.to_numpy(zero_copy_only=False)
            size = shape.as_py() or [0, 0, 0]
            if len(size) != 3 or len(flat) != np.prod(size) or len(flat) == 0:
                raise UserError(f"{path}: a range image of shape {size} has {len(flat)} values; {again(component)}")
            images.append(flat.reshape(size))
        return images

    def _file(self, path: str, component: str, names: Sequence[str]) -> Any:
        file = self._open.pop(path, None)
        if file is None:
            file = import_parquet().ParquetFile(path, buffer_size=BUFFER)
        missing = [name for name in names if name not in file.schema_arrow.names]
        if missing:
            what = f"no column {missing[0]}, so it is not component {component} of Waymo Open v2"
            raise UserError(f"{path}: {what}; {again(component)}")
        self._open[path] = file
        while len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return file


def component_path(root: str, folder: str, component: str, segment: str) -> str:
    """The file of a segment."""
    return os.path.join(root, folder, component, f"{segment}.parquet")


def again(component: str) -> str:
    """What to do about a file that is not as it should be."""
    return f"download component {component} of Waymo Open v2 again"


@contextmanager
def reading(path: str, component: str) -> Iterator[None]:
    """Turns what pyarrow says of a bad file into one line, a UserError."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {again(component)}") from None
    except (OSError, ValueError, LookupError, NotImplementedError) as error:  # what pyarrow raises is one of these
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not readable as Parquet ({reason}); {again(component)}") from None


def import_parquet() -> Any:
    """pyarrow.parquet; UserError where pyarrow is missing."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"reading Waymo Open v2 needs pyarrow ({error}): pip install pyarrow==21.0.0") from None
    return pyarrow.parquet
