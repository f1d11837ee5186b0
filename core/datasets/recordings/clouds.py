"""Point clouds as recorders write them: .bin, .npy and .pcd."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.point_checks import check_points
from core.datasets.recordings.pcd import read_pcd
from core.errors import UserError

SUFFIXES = (".bin", ".npy", ".pcd")
SKIPPED = "_"
"""Name of a column that is in the file and not read."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Attributes:
    points: float32 [N, 3 + F], x, y, z (m), then the features; rows that are not finite are left out.
    rows: int64 [N], their rows in the file.
    num_rows: rows of the file.
    """

    points: NDArray[np.float32]
    rows: NDArray[np.int64]
    num_rows: int


def feature_names(columns: Sequence[str]) -> tuple[str, ...]:
    """What `columns` names beside x, y, z. Raises UserError: x, y or z is not among them, or one stands there twice."""
    used = [name for name in columns if name != SKIPPED]
    if len(set(used)) != len(used) or not {"x", "y", "z"} <= set(used):
        raise UserError(
            f"dataset.columns {list(columns)}: expected x, y, z and others once each, '_' for those to skip"
        )
    return tuple(name for name in used if name not in ("x", "y", "z"))


def read_cloud(path: str, columns: Sequence[str]) -> Cloud:
    """Reads a point cloud.

    Args:
        columns: what the columns of .bin and .npy are, in order, and which fields are read of .pcd.
    Raises UserError: the file is missing, empty, broken or of other columns, or no point in it is finite.
    """
    names = ("x", "y", "z", *feature_names(columns))
    try:
        table = _READERS[os.path.splitext(path)[1]](path, columns, names)
    except OSError as error:
        raise UserError(
            f"point cloud {path} cannot be read ({error.strerror or error}): record or import it again"
        ) from None
    except (ValueError, TypeError, MemoryError, OverflowError) as error:
        raise UserError(
            f"point cloud {path} is broken: {' '.join(str(error).split())}; record or import it again"
        ) from None
    finite = np.isfinite(table).all(1)
    points = np.ascontiguousarray(table[finite])
    if len(points) == 0:
        what = "is empty" if len(table) == 0 else f"has {len(table)} points, none of them finite"
        raise UserError(f"point cloud {path} {what}: remove it or record it again")
    check_points(points, path, f"see dataset.columns, {list(columns)}, or record it again")
    return Cloud(points, np.flatnonzero(finite), len(table))


def _read_bin(path: str, columns: Sequence[str], names: Sequence[str]) -> NDArray[np.float32]:
    data = np.fromfile(path, np.uint8)
    if len(data) % (4 * len(columns)):
        raise UserError(
            f"point cloud {path} has {len(data)} bytes, not whole rows of {len(columns)} float32 columns "
            f"({', '.join(columns)}): set dataset.columns to what it holds"
        )
    return _chosen(data.view("<f4").reshape(-1, len(columns)), path, columns, names)


def _read_npy(path: str, columns: Sequence[str], names: Sequence[str]) -> NDArray[np.float32]:
    array = np.load(path, allow_pickle=False)
    if array.dtype.names:
        return _from_fields({name: array[name] for name in array.dtype.names}, path, names)
    return _chosen(array, path, columns, names)


def _read_pcd(path: str, columns: Sequence[str], names: Sequence[str]) -> NDArray[np.float32]:
    with open(path, "rb") as file:
        fields = read_pcd(file)
    return _from_fields(fields, path, names)


def _chosen(table: NDArray[Any], path: str, columns: Sequence[str], names: Sequence[str]) -> NDArray[np.float32]:
    if table.ndim != 2 or table.shape[1] != len(columns):
        raise UserError(
            f"point cloud {path} is of shape {list(table.shape)}, expected {len(columns)} columns "
            f"({', '.join(columns)}): set dataset.columns to what it holds"
        )
    order = [list(columns).index(name) for name in names]
    if order == list(range(table.shape[1])):
        return table.astype(np.float32, copy=False)
    return table[:, order].astype(np.float32)


def _from_fields(fields: dict[str, NDArray[Any]], path: str, names: Sequence[str]) -> NDArray[np.float32]:
    missing = [name for name in names if name not in fields or fields[name].ndim != 1]
    if missing:
        raise UserError(
            f"point cloud {path} has no field '{missing[0]}', its fields are {', '.join(fields)}: name those to "
            "read in dataset.columns, with model.in_channel as many"
        )
    return np.stack([fields[name].astype(np.float32) for name in names], 1)


_READERS = {".bin": _read_bin, ".npy": _read_npy, ".pcd": _read_pcd}
