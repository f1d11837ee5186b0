"""The components of a segment as Waymo Open v2 lays them out, in Parquet."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.components import KEYS, column

_KEY_TYPES = {"key.segment_context_name": "string", "key.frame_timestamp_micros": "int64"}  # others: int8

Column = tuple[list[Any], str]
"""Values and the name of their type; a name ending in "[]" is that of lists."""


def component_file(component: str, segment: str, keys: Sequence[tuple[int, ...]], columns: dict[str, Column]) -> bytes:
    """A file with one row in each row group.

    Args:
        keys: of each row, what follows the segment's name among the component's keys.
        columns: {field: (values, type)}; see `images` and `transforms`.
    """
    import pyarrow as pa  # here and not above: other formats do without it
    import pyarrow.parquet as pq

    rows = [(segment, *key) for key in keys]
    data = {
        name: pa.array([row[position] for row in rows], _KEY_TYPES.get(name, "int8"))
        for position, name in enumerate(KEYS[component])
    }
    for field, (values, kind) in columns.items():
        of_lists = kind.endswith("[]")
        item = pa.type_for_alias(kind.removesuffix("[]"))
        data[column(component, field)] = pa.array(values, pa.list_(item) if of_lists else item)
    buffer = io.BytesIO()
    pq.write_table(pa.table(data), buffer, row_group_size=1, compression="zstd")
    return buffer.getvalue()


def images(rows: Sequence[Sequence[NDArray[Any]]]) -> dict[str, Column]:
    """The columns of range images [H, W, C], one per return and row."""
    columns: dict[str, Column] = {}
    for number in range(len(rows[0])):
        of_return = [row[number] for row in rows]
        name = f"range_image_return{number + 1}"
        columns[f"{name}.values"] = ([image.reshape(-1) for image in of_return], f"{of_return[0].dtype.name}[]")
        columns[f"{name}.shape"] = ([list(image.shape) for image in of_return], "int32[]")
    return columns


def transforms(matrices: Sequence[NDArray[np.float64]]) -> Column:
    """A column of matrices [4, 4]."""
    return [matrix.reshape(-1) for matrix in matrices], "float64[]"
