"""What readers of several data sets share: files of points and labels, files that are not there, index files."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import UNKNOWN, ClassTable
from core.datasets.point_checks import LastColumn, check_points
from core.errors import UserError
from core.running.files import absent_files, why_absent, write_atomic

# `mend`, everywhere: what to do about it, for the error


def read_bytes(path: str, kind: str, mend: str) -> bytes:
    """The bytes of a file; UserError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{kind} {path} cannot be read ({error.strerror}): {mend}") from None


def read_points(path: str, num_columns: int, last: LastColumn, mend: str, drop: bool) -> NDArray[np.float32]:
    """Reads points float32 [N, num_columns]; UserError as `check_points`, whose `last` and `drop` these are."""
    data, size = read_bytes(path, "LiDAR file", mend), 4 * num_columns
    if len(data) == 0 or len(data) % size:
        raise UserError(f"LiDAR file {path} has {len(data)} bytes, not a multiple of {size}: {mend}")
    points = np.frombuffer(data, "<f4").reshape(-1, num_columns).copy()
    check_points(points, path, mend, drop, last)
    return points


def read_labels(path: str, dtype: str, num_points: int, classes: ClassTable, mend: str) -> NDArray[np.uint8]:
    """Reads class ids uint8 [num_points] from a file of raw labels of a dtype, whose low 16 bits count.

    Raises UserError: another number of labels, or one that no class has.
    """
    data, size = read_bytes(path, "label file", mend), np.dtype(dtype).itemsize
    if len(data) != size * num_points:
        raise UserError(f"label file {path} has {len(data) / size:g} labels, its scan {num_points} points: {mend}")
    return class_ids(path, np.frombuffer(data, dtype).astype(np.int64) & 0xFFFF, classes, mend)


def class_ids(path: str, raw: NDArray[np.integer], classes: ClassTable, mend: str) -> NDArray[np.uint8]:
    """Class ids uint8 [N] of raw labels [N] >= 0 of a file; UserError for one that no class has."""
    table = classes.from_raw
    label = table[np.minimum(raw, len(table) - 1)]
    unknown = raw[(label == UNKNOWN) | (raw >= len(table))]
    if len(unknown):
        raise UserError(f"label file {path} holds the raw label {unknown[0]}, which no class has: {mend}")
    return label


def check_there(kind: str, paths: Iterable[str], mend: str, split: str | None = None) -> None:
    """UserError where files are not there, links followed; names the first and the count."""
    wanted = list(paths)
    absent = absent_files(wanted)
    if absent:
        count = f"{len(absent)} of {len(wanted)} in all" + (f" (split '{split}')" if split else "")
        raise UserError(f"{kind} {absent[0]} {why_absent(absent[0])}, and {count}: {mend}")


def image_size(path: str, mend: str) -> tuple[int, int]:
    """Width and height of an image file; UserError where it is missing or broken."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError:
        raise UserError(f"camera image {path} {why_absent(path)}: {mend}") from None
    except (OSError, SyntaxError) as error:
        raise UserError(f"camera image {path} does not decode ({error}): {mend}") from None


def write_index(path: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes what is looked up once, an npz archive; UserError where that fails."""
    try:
        with write_atomic(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        hint = "set dataset.index_path to a folder with room that you may write to"
        raise UserError(f"index file {path} cannot be written ({error.strerror}): {hint}") from None


def text(value: Any) -> str:
    """One entry of a bytes array as text."""
    return bytes(value).decode()
