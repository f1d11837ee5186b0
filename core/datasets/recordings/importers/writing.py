"""Writing what an importer gives: file by file, whole or not at all; what is there already stays."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from core.datasets.reading import read_bytes
from core.errors import UserError
from core.running.files import write_atomic, write_json
from core.running.progress import progress

IMPORT = "import.json"


@dataclass(frozen=True)
class Item:
    """One file of the import.

    Attributes:
        path: below the recording's folder.
        content: its bytes, made only where the file is not there yet.
    """

    path: str
    content: Callable[[], bytes]


@dataclass(frozen=True)
class Source:
    """One recording to import.

    Attributes:
        name: of the recording.
        total: number of its items.
        items: its files.
        options: what they depend on; part of import.json.
        classes: content of classes.yaml, written where the root has none; None: there are no labels.
    """

    name: str
    total: int
    items: Iterable[Item]
    options: Mapping[str, Any]
    classes: str | None = None


def write_recording(root: str, source: Source) -> int:
    """Writes a recording below `root`, or what is missing of it; the number of files written.

    Raises UserError: the folder holds an import with other options, or something else.
    """
    folder = os.path.join(root, source.name)
    _claim(folder, dict(source.options))
    written = 0
    for item in progress(source.items, source.total, source.name):
        path = os.path.join(folder, item.path)
        if not os.path.exists(path):
            with write_atomic(path) as file:
                file.write(item.content())
            written += 1
    classes = os.path.join(root, "classes.yaml")
    if source.classes is not None and not os.path.exists(classes):
        with write_atomic(classes) as file:
            file.write(source.classes.encode())
    write_json(os.path.join(folder, IMPORT), {"options": dict(source.options), "complete": True})
    return written


def _claim(folder: str, options: dict[str, Any]) -> None:
    path = os.path.join(folder, IMPORT)
    if not os.path.exists(path):
        if os.path.isdir(folder) and os.listdir(folder):
            raise UserError(f"{folder}: holds files that no import wrote; choose another DEST or remove it")
        write_json(path, {"options": options, "complete": False})
        return
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); remove {folder} and import again") from None
    wanted = json.loads(json.dumps(options))
    if found != wanted:
        different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        key = different[0]
        raise UserError(
            f"{path}: imported with {key} {found.get(key)}, now it is {wanted.get(key)}; give the same options, choose "
            f"another DEST, or remove {folder}"
        )


def cloud_bytes(points: NDArray[np.floating]) -> bytes:
    """Content of a .bin file of points [N, C]."""
    return np.ascontiguousarray(points, "<f4").tobytes()


def label_bytes(raw: NDArray[np.integer]) -> bytes:
    """Content of a .label file of raw labels [N]."""
    return raw.astype("<u4").tobytes()


def poses_text(poses: Iterable[NDArray[np.float64]]) -> bytes:
    """Content of poses.txt of transforms [4, 4]."""
    return "".join(" ".join(f"{v:.12g}" for v in pose[:3].ravel()) + "\n" for pose in poses).encode()


def times_text(times: Iterable[float]) -> bytes:
    """Content of times.txt of times, s."""
    return "".join(f"{time:.6f}\n" for time in times).encode()


def read_file(path: str) -> bytes:
    """The bytes of a file; UserError where it cannot be read."""
    return read_bytes(path, "file", "unpack the data set again")


def calibration_text(cameras: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Content of calibration.yaml of the cameras' blocks."""
    return yaml.safe_dump({"cameras": dict(cameras)}, sort_keys=False).encode()
