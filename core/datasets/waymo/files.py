"""Which segments of a split are there, and whether their files changed."""

import glob
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.components import COMPONENTS, LABELS, component_path
from core.errors import UserError
from core.running.files import absent_files, why_absent

FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
SUFFIX = ".parquet"
PACKED = "packed.json"  # beside the components' folders; see pack.py
_THREADS = 32  # on a network disk each answer takes a round trip


def check_root(root: str, split: str) -> str:
    """The folder of a split below the data root. Raises UserError: it is not there, or holds another release."""
    if split not in FOLDERS:
        raise UserError(f"Waymo Open has no split '{split}' (it has: {', '.join(FOLDERS)})")
    folder = FOLDERS[split]
    if not os.path.isdir(root):
        raise UserError(f"dataset.root {root} is not a folder: set it to the one with {folder}/lidar, {folder}/...")
    here = os.path.join(root, folder)
    if not any(os.path.isdir(os.path.join(here, component)) for component in COMPONENTS):
        records = [path for place in (root, here) for path in sorted(glob.glob(f"{glob.escape(place)}/*.tfrecord"))]
        if records:
            raise UserError(f"{records[0]} is of Waymo Open v1: download the Parquet files of v2 into {here}")
        raise UserError(
            f"{here} holds none of Waymo Open v2's components: download its folders "
            f"{', '.join(needed(split))} into it, or set dataset.root"
        )
    return here


def check_packing(folder: str, num_sweeps: int) -> None:
    """Raises UserError where a split's folder is half packed, or without the earlier turns that are asked for."""
    found = read_packed(folder)
    if found is not None and not found["complete"]:
        raise UserError(f"{folder}: packing it was interrupted; run python3 prepare_waymo.py ... again: it goes on")
    if found is not None and num_sweeps > found["num_sweeps"]:
        raise UserError(
            f"dataset.num_sweeps is {num_sweeps}, but {folder} was packed with {found['num_sweeps']} earlier turns a "
            f"frame: pack it into another folder with prepare_waymo.py --num-sweeps {num_sweeps}"
        )


def read_packed(folder: str) -> dict[str, int] | None:
    """How a split's folder was, or is being, packed: {"num_sweeps", "complete"}; None where it was not.

    Raises UserError: the file that says so is damaged.
    """
    path = os.path.join(folder, PACKED)
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return {"num_sweeps": int(found["num_sweeps"]), "complete": found.get("complete", True)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not readable ({error}); remove {folder} and pack it again") from None


def needed(split: str) -> tuple[str, ...]:
    """The components that a split needs: the test split has no labels."""
    return tuple(component for component in COMPONENTS if component != LABELS or split != "test")


def list_segments(root: str, split: str, components: Sequence[str]) -> list[str]:
    """Names of the segments of which any of `components` has a file, sorted."""
    found: set[str] = set()
    for component in components:
        place = os.path.join(root, FOLDERS[split], component)
        names = os.listdir(place) if os.path.isdir(place) else []
        found |= {name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and name[0] != "."}
    return sorted(found)


def complete_segments(root: str, split: str, components: Sequence[str]) -> list[str]:
    """Names of the segments of which each of `components` has a file, links followed; sorted."""
    folder, segments = FOLDERS[split], list_segments(root, split, components)
    files = {s: [component_path(root, folder, component, s) for component in components] for s in segments}
    absent = frozenset(absent_files(path for paths in files.values() for path in paths))
    return [segment for segment in segments if absent.isdisjoint(files[segment])]


def split_segments(
    root: str, split: str, wanted: Sequence[tuple[str, int]] | None, available: bool = False
) -> list[str]:
    """Names of the segments of a split, sorted: all, or those of the `wanted` frames (segment, timestamp).

    Args:
        available: of these, the segments whose files are all there.
    Raises UserError: there are none, or, unless `available`, one of those is not there.
    """
    place = os.path.join(root, FOLDERS[split])
    listed = None if wanted is None else {segment for segment, _ in wanted}
    if available:
        found = [s for s in complete_segments(root, split, needed(split)) if listed is None or s in listed]
        if not found:
            raise UserError(
                f"{place} holds no segment of split '{split}' with a file in each of {', '.join(needed(split))}: "
                "download these of Waymo Open v2 into it"
            )
        return found
    found = list_segments(root, split, needed(split))
    if not found:
        raise UserError(f"{place} holds no Parquet files: download Waymo Open v2 into it")
    if listed is None:
        return found
    absent = sorted(listed - set(found))
    if absent:
        raise UserError(
            f"{place} lacks {len(absent)} of the {len(listed)} segments that dataset.test_frames lists, the first "
            f"being {absent[0]}: download all of them"
        )
    return sorted(listed)


def file_states(root: str, split: str, segments: Sequence[str], components: Sequence[str]) -> NDArray[np.int64]:
    """int64 [S, K, 2]: size (bytes) and time of change (ns) of each segment's files; -1 where there is none."""
    paths = [
        component_path(root, FOLDERS[split], component, segment) for segment in segments for component in components
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        states = list(pool.map(_state, paths))
    return np.array(states, np.int64).reshape(len(segments), len(components), 2)


def _state(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def check_states(
    root: str, split: str, segments: Sequence[str], components: Sequence[str], states: NDArray[np.int64]
) -> None:
    """Raises UserError where a segment lacks the file of a component; names the first and the count."""
    for k, component in enumerate(components):
        absent = [segment for segment, size in zip(segments, states[:, k, 0], strict=True) if size < 0]
        if absent:
            path = component_path(root, FOLDERS[split], component, absent[0])
            what = "labels" if component == LABELS else f"component {component}"
            raise UserError(
                f"{path} {why_absent(path)}: {what} of {len(absent)} of {len(segments)} segments (split '{split}') "
                f"{'is' if len(absent) == 1 and component != LABELS else 'are'} not there; download {component} of "
                "Waymo Open v2, or set dataset.frames to available (of prepare_waymo.py: --frames available)"
            )


def read_test_frames(path: str) -> list[tuple[str, int]]:
    """The frames to submit: (segment, timestamp in microseconds), one a line with a comma between.

    Raises UserError: the file is missing or has other lines.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise UserError(
            f"dataset.test_frames {path} cannot be read ({error.strerror}): take the list of test frames from "
            "Waymo's repository, waymo-open-dataset"
        ) from None
    frames = []
    for number, line in enumerate(lines, 1):
        segment, _, timestamp = line.partition(",")
        if not line:
            continue
        if not segment or not timestamp.strip().isdigit():
            raise UserError(f"{path}, line {number}: expected 'segment,timestamp', found '{line[:80]}'")
        frames.append((segment, int(timestamp)))
    if not frames:
        raise UserError(f"dataset.test_frames {path} lists no frames")
    return frames
