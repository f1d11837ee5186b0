"""Packing: the rows that the frames of a split need, each in a row group of its own.

The downloaded files hold several times as many turns as have labels, and many rows a row group: to read one, all before
it are decoded. What is packed has the same layout, and is read a row at a time.
"""

import filecmp
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.datasets.waymo.components import (
    BUFFER,
    IMAGE,
    KEYS,
    LABELS,
    LIDAR,
    POSE,
    PROJECTION,
    ParquetFiles,
    column,
    image_columns,
    import_parquet,
    reading,
)
from core.datasets.waymo.files import (
    FOLDERS,
    PACKED,
    check_root,
    check_states,
    file_states,
    needed,
    read_packed,
    split_segments,
)
from core.datasets.waymo.segment import Arrays, SegmentFiles, read_segment
from core.errors import UserError
from core.running.files import check_room, write_atomic, write_json
from core.running.progress import progress
from core.running.workers import make_all

COLUMNS = {
    LIDAR: image_columns(LIDAR),
    POSE: image_columns(POSE, returns=(1,)),
    PROJECTION: image_columns(PROJECTION),
    LABELS: image_columns(LABELS),
    IMAGE: [column(IMAGE, "image")],
}
"""The large components, and what is read of them; files of others are copied."""

_SOURCE = b"iupc.source"
Rows = dict[str, list[int]]  # component -> rows, ascending


def pack_split(
    download: str,
    root: str,
    split: str,
    wanted: Sequence[tuple[str, int]] | None = None,
    num_sweeps: int = 0,
    num_workers: int = 0,
    available: bool = False,
) -> None:
    """Packs a split below `download` into one below `root`; files that are there and of the same rows stay.

    Says how much room it takes before it begins.

    Args:
        wanted: the frames, (segment, timestamp); None: those with labels.
        num_sweeps: earlier turns of each frame to keep, too.
        num_workers: processes beside this one; 0 = all in this one.
        available: only the segments whose files are all there; else a missing file is an error.
    Raises UserError: files are missing, broken or do not fit together, `root` holds something else, or the disk is
    full.
    """
    check_root(download, split)
    if os.path.realpath(download) == os.path.realpath(root):
        raise UserError(f"--root {root}: the same folder as --download; choose another one")
    folder = os.path.join(root, FOLDERS[split])
    _check_target(folder, num_sweeps)
    segments = split_segments(download, split, wanted, available)
    check_states(download, split, segments, needed(split), file_states(download, split, segments, needed(split)))
    job, frames, num_bytes = _plan(download, root, split, segments, wanted, num_sweeps)
    print(f"{folder}: {frames} frames of {len(segments)} segments, about {num_bytes / 1e9:.2f} GB", flush=True)
    check_room(folder, num_bytes - _size_of(job))
    state = {"num_sweeps": num_sweeps, "complete": False}
    write_json(os.path.join(folder, PACKED), state)
    made = sum(progress(make_all(job, range(len(segments)), num_workers), len(segments), f"packing {FOLDERS[split]}"))
    write_json(os.path.join(folder, PACKED), state | {"complete": True})
    if made == 0:
        print(f"{folder}: all files were there already", flush=True)


def _check_target(folder: str, num_sweeps: int) -> None:
    if not os.path.isdir(folder) or not os.listdir(folder):
        return
    found = read_packed(folder)
    if found is None:
        raise UserError(f"{folder}: holds files of something else ({min(os.listdir(folder))}); choose another --root")
    if found["num_sweeps"] != num_sweeps:
        raise UserError(
            f"{folder}: packed with {found['num_sweeps']} earlier turns a frame, now it is {num_sweeps}; remove it or "
            "choose another --root"
        )


def _plan(
    download: str, root: str, split: str, segments: list[str], wanted: Sequence[tuple[str, int]] | None, num_sweeps: int
) -> tuple["PackJob", int, int]:
    """What is to be done, the number of frames, and about how many bytes it takes."""
    job = PackJob(download, root, split, segments, [])
    frames = num_bytes = 0
    for number, segment in enumerate(progress(segments, len(segments), f"looking through {FOLDERS[split]}")):
        files = SegmentFiles(download, FOLDERS[split], segment)
        times = None if wanted is None else sorted(time for name, time in wanted if name == segment)
        arrays = read_segment(files, number, times)
        rows = rows_to_keep(arrays, num_sweeps)
        job.rows.append(rows)
        frames += len(arrays["timestamp"])
        parquet = ParquetFiles()
        for component in needed(split):
            path = files.path(component)
            num_bytes += (
                _bytes_of(parquet, path, component, rows[component]) if component in COLUMNS else os.path.getsize(path)
            )
    return job, frames, num_bytes


def rows_to_keep(arrays: Arrays, num_sweeps: int) -> Rows:
    """The rows that the frames of one segment need, and those of `num_sweeps` turns before each.

    Args:
        arrays: see `read_segment`.
    """
    rows, scans = arrays["rows"], arrays["scan_rows"]
    turns = {int(k) for scan in arrays["scan"] for k in range(max(scan - num_sweeps, 0), scan)}
    earlier = scans[sorted(turns)].reshape(-1, 2)
    keep = {
        LIDAR: np.append(rows[:, 0], earlier[:, 0]),
        POSE: np.append(rows[:, 1], earlier[:, 1]),
        PROJECTION: rows[:, 2],
        LABELS: rows[rows[:, 3] >= 0, 3],
        IMAGE: arrays["camera_rows"].reshape(-1),
    }
    return {component: np.unique(values).tolist() for component, values in keep.items()}


def _bytes_of(files: ParquetFiles, path: str, component: str, rows: list[int]) -> int:
    """About how many bytes some rows take, by the size of their images among all in the file."""
    total, num_rows = files.column_bytes(path, component, COLUMNS[component])
    if component == IMAGE:
        return total * len(rows) // max(num_rows, 1)
    name = column(component, "range_image_return1.shape")
    cells = [int(np.prod(shape)) if shape else 0 for shape in files.table(path, component, [name])[name]]
    return total * sum(cells[row] for row in rows) // max(sum(cells), 1)


@dataclass
class PackJob:
    """Packs single segments; see `core.running.workers`.

    Attributes:
        download, directory: data roots, from and to.
        split: "train", "val" or "test".
        segments: their names.
        rows: of each segment, the rows to keep.
    """

    download: str
    directory: str
    split: str
    segments: list[str]
    rows: list[Rows]

    def check_packages(self) -> None:
        """UserError where pyarrow is missing."""
        import_parquet()

    def make(self, index: int) -> bool:
        """Packs segment `index`; False where its files are there already."""
        made = []
        for component, source, target in self.paths(index):
            if component in COLUMNS:
                made.append(pack_file(source, target, component, self.rows[index][component]))
            else:
                made.append(_copy(source, target))
        return any(made)

    def paths(self, index: int) -> list[tuple[str, str, str]]:
        """(component, path to read, path to write) of the files of segment `index`."""
        files, packed = (
            SegmentFiles(root, FOLDERS[self.split], self.segments[index]) for root in (self.download, self.directory)
        )
        return [(component, files.path(component), packed.path(component)) for component in needed(self.split)]


def pack_file(source: str, target: str, component: str, rows: list[int]) -> bool:
    """Writes some rows of a file, each as a row group; False where `target` holds them already."""
    parquet = import_parquet()
    status = os.stat(source)
    origin = json.dumps({"size": status.st_size, "time": status.st_mtime_ns, "rows": rows}).encode()
    if _origin(target) == origin:
        return False
    with write_atomic(target) as file, reading(source, component), ExitStack() as open_writer:
        writer: Any = None
        for batch in _batches(source, component, rows):
            batch = _without_nulls(batch).replace_schema_metadata({_SOURCE: origin})
            if writer is None:
                compression = "none" if component == IMAGE else "zstd"  # JPEGs are compressed
                options = {"compression": compression, "use_dictionary": False}
                writer = open_writer.enter_context(parquet.ParquetWriter(file, batch.schema, **options))
            writer.write_batch(batch)
    return True


def _batches(source: str, component: str, rows: list[int]) -> Iterator[Any]:
    """Those rows, one by one: a row group may hold more than fits into memory."""
    file = import_parquet().ParquetFile(source, buffer_size=BUFFER)
    names, begin = [*KEYS[component], *COLUMNS[component]], 0
    for group in range(file.metadata.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        wanted = {row for row in rows if begin <= row < end}
        if wanted:
            for row, batch in enumerate(
                file.iter_batches(1, row_groups=[group], columns=names, use_threads=False), begin
            ):
                if row in wanted:
                    yield batch
                if row == max(wanted):
                    break
        begin = end


def _without_nulls(batch: Any) -> Any:
    """The same lists, of a type that says that no item is null: they are read in two thirds of the time."""
    import pyarrow as pa

    columns, fields = [], []
    for field, column_ in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_list(field.type):
            if column_.flatten().null_count:
                raise ValueError(f"nulls in {field.name}")
            field = field.with_type(pa.list_(pa.field("element", field.type.value_type, nullable=False)))
            column_ = column_.cast(field.type)
        columns.append(column_)
        fields.append(field)
    return pa.record_batch(columns, schema=pa.schema(fields))


def _origin(path: str) -> bytes | None:
    """What a packed file says that it was made of; None where there is no readable one."""
    try:
        return (import_parquet().read_schema(path).metadata or {}).get(_SOURCE)
    except (OSError, ValueError):
        return None


def _copy(source: str, target: str) -> bool:
    if os.path.exists(target) and filecmp.cmp(source, target, shallow=False):
        return False
    with write_atomic(target) as file, open(source, "rb") as read:
        shutil.copyfileobj(read, file)
    return True


def _size_of(job: PackJob) -> int:
    paths = [target for index in range(len(job.segments)) for _, _, target in job.paths(index)]
    return sum(os.path.getsize(path) for path in paths if os.path.exists(path))
