"""Writing the components of a segment as Waymo Open v2 lays them out."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.datasets.waymo.components import KEYS, column, component_path
from core.files import write_atomic

_KEY_TYPES = {"key.segment_context_name": pa.string(), "key.frame_timestamp_micros": pa.int64()}  # others: int8
_VALUES = {np.dtype(np.float32): pa.float32(), np.dtype(np.int32): pa.int32()}

Column = tuple[list[Any], Any]  # values and their type


def write_component(
    root: str, folder: str, segment: str, component: str, keys: Sequence[tuple[int, ...]], columns: dict[str, Column]
) -> str:
    """Writes one file, a row group per row.

    Args:
        keys: of each row, what follows the segment's name among the component's keys.
        columns: {field: (values, type)}; see `images` and `transforms`.

    Returns:
        Its path below `root`.
    """
    names = KEYS[component]
    data = {names[0]: pa.array([segment] * len(keys), pa.string())}
    for position, name in enumerate(names[1:]):
        data[name] = pa.array([key[position] for key in keys], _KEY_TYPES.get(name, pa.int8()))
    for field, (values, kind) in columns.items():
        data[column(component, field)] = pa.array(values, kind)
    path = component_path(root, folder, component, segment)
    with write_atomic(path) as file:
        pq.write_table(pa.table(data), file, row_group_size=1, compression="zstd")
    return os.path.relpath(path, root)


def images(rows: Sequence[Sequence[NDArray[Any]]]) -> dict[str, Column]:
    """The columns of range images [H, W, C], one per return and row."""
    columns: dict[str, Column] = {}
    for number in range(len(rows[0])):
        of_return = [np.ascontiguousarray(row[number]) for row in rows]
        kind = pa.list_(_VALUES[of_return[0].dtype])
        name = f"range_image_return{number + 1}"
        columns[f"{name}.values"] = ([image.reshape(-1) for image in of_return], kind)
        columns[f"{name}.shape"] = ([list(image.shape) for image in of_return], pa.list_(pa.int32()))
    return columns


def transforms(matrices: Sequence[NDArray[np.float64]]) -> Column:
    """A column of matrices [4, 4]."""
    return [matrix.reshape(-1) for matrix in matrices], pa.list_(pa.float64())


def numbers(values: Sequence[float], whole: bool = False) -> Column:
    """A column of single numbers."""
    return list(values), pa.int32() if whole else pa.float64()


def bytes_column(values: Sequence[bytes]) -> Column:
    """A column of byte strings."""
    return list(values), pa.binary()


def lists(values: Sequence[Sequence[float]]) -> Column:
    """A column of lists of numbers."""
    return [list(value) for value in values], pa.list_(pa.float64())
