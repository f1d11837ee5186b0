"""What is needed of all files' keys and of the small components, in one file per split.

A Parquet file has to be asked where a frame lies. `build_index` asks all of them once; from then on a frame is one row
in each file, which is a row group of its own: see pack.py.
"""

import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from torchpack.utils.logging import logger

from core.datasets.reading import text, write_index
from core.datasets.waymo.components import IMAGE, LABELS, LIDAR, POSE, PROJECTION, ParquetFiles
from core.datasets.waymo.files import (
    FOLDERS,
    check_packing,
    check_root,
    check_states,
    complete_segments,
    file_states,
    list_segments,
    needed,
    read_test_frames,
    split_segments,
)
from core.datasets.waymo.segment import Arrays, SegmentFiles, read_segment
from core.errors import UserError
from core.running.progress import progress

FORMAT = 2
MAX_SWEEPS = 10
KNOWN_FRAMES = {("train", 798): 23691}
"""Labelled frames of the whole data set by split and number of segments."""


def open_index(
    root: str, split: str, index_path: str, test_frames: str, num_sweeps: int, available: bool = False
) -> tuple[dict[str, Any], Arrays]:
    """Opens `index_path`/`split`.npz, building it where it is absent or of other files.

    Files of labels may vanish after it is built: weakly supervised training does not open them.

    Args:
        available: only the segments whose files are all there; else a missing file is an error.
    Returns the meta data, and the arrays (see `read_segment`); those of single sweeps only where `num_sweeps` > 0.
    Raises UserError: files are missing, broken or do not fit together.
    """
    folder = check_root(root, split)
    if num_sweeps > MAX_SWEEPS:
        raise UserError(f"dataset.num_sweeps is {num_sweeps}, at most {MAX_SWEEPS} are supported")
    check_packing(folder, num_sweeps)
    wanted = read_test_frames(test_frames) if split == "test" else None
    path = os.path.join(index_path, f"{split}.npz")
    meta = _read_meta(path)
    if meta is None or not _is_of(path, meta, root, split, wanted, available):
        why = "building it" if meta is None else "it is of other files; building it anew"
        logger.info(f'Index "{path}" of {os.path.join(root, FOLDERS[split])}: {why}, once.')
        build_index(root, split, path, wanted, available)
        meta = _read_meta(path)
        if meta is None:
            raise UserError(f"index file {path} cannot be read back: is the disk full?")
    with np.load(path, allow_pickle=False) as archive:
        skipped = ("meta", "states") if num_sweeps else ("meta", "states", "scan_rows", "scan_pose", "scan_segment")
        return meta, {name: archive[name] for name in archive.files if name not in skipped}


def build_index(
    root: str, split: str, path: str, wanted: Sequence[tuple[str, int]] | None = None, available: bool = False
) -> None:
    """Asks the files of all segments of a split, and writes the index file `path`, atomically.

    Args:
        wanted: the frames, (segment, timestamp); None: those with labels.
        available: see `open_index`.
    Raises UserError: files are missing, broken or do not fit together.
    """
    components = needed(split)
    segments = split_segments(root, split, wanted, available)
    states = file_states(root, split, segments, components)
    check_states(root, split, segments, components, states)
    frames_of: dict[str, list[int]] = {}
    for segment, timestamp in wanted or ():
        frames_of.setdefault(segment, []).append(timestamp)
    parts = []
    for number, segment in enumerate(progress(segments, len(segments), f"index of split {split}")):
        files = SegmentFiles(root, FOLDERS[split], segment)
        _check_packed(files, split)
        parts.append(read_segment(files, number, sorted(frames_of[segment]) if wanted else None))
    arrays = _join(parts)
    meta = {"format": FORMAT, "split": split, "num_segments": len(segments), "wanted": wanted}
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    arrays["states"] = states
    write_index(path, arrays)


def _check_packed(segment: SegmentFiles, split: str) -> None:
    """Raises UserError where a row group of the large components holds more than one row."""
    files = ParquetFiles()
    for component in (LIDAR, POSE, PROJECTION, IMAGE, LABELS):
        if component not in needed(split):
            continue
        rows = files.largest_group(segment.path(component), component)
        if rows > 1:
            command = f"python3 prepare_waymo.py --download {segment.root} --root DIR"
            raise UserError(
                f"{segment.path(component)}: row groups of up to {rows} rows, of which a frame would decode many "
                f"(expected 1 row); pack the frames once with: {command}, and set dataset.root to DIR"
            )


def _is_of(
    path: str, meta: dict[str, Any], root: str, split: str, wanted: Sequence[tuple[str, int]] | None, available: bool
) -> bool:
    """Whether the index is of the files as they are now."""
    listed = None if wanted is None else [list(frame) for frame in wanted]
    if meta.get("format") != FORMAT or meta.get("wanted") != listed:
        return False
    with np.load(path, allow_pickle=False) as archive:
        before, segments = archive["states"], [text(name) for name in archive["segment"]]
    components = needed(split)
    others = [component for component in components if component != LABELS]
    there = set((complete_segments if available else list_segments)(root, split, others))
    if available and LABELS in components:
        there &= {*complete_segments(root, split, [LABELS]), *segments}
    if wanted is not None:
        listed_segments = {segment for segment, _ in wanted}
        there = there & listed_segments if available else listed_segments
    if there != set(segments):
        return False
    now = file_states(root, split, segments, components)
    may_vanish = np.array([component == LABELS for component in components])
    return bool(((now == before) | (may_vanish[:, None] & (now < 0))).all())


def _read_meta(path: str) -> dict[str, Any] | None:
    """The meta data of an index file; None where there is no readable one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            meta: dict[str, Any] = json.loads(archive["meta"].tobytes())
        return meta
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None


def _join(parts: Sequence[Arrays]) -> Arrays:
    """Arrays of all segments one after the other; scans count through."""
    begin = 0
    for part in parts:
        part["scan"] = part["scan"] + begin
        begin += len(part["scan_pose"])
    height = max(part["inclination"].shape[1] for part in parts)
    for part in parts:
        part["inclination"] = np.pad(
            part["inclination"], ((0, 0), (0, height - part["inclination"].shape[1])), constant_values=np.nan
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
