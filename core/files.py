"""Writing files so that a reader never sees half of one."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from core.errors import UserError

UNFINISHED = ".unfinished-"


@contextmanager
def write_atomic(path: str) -> Iterator[IO[bytes]]:
    """Opens a binary file beside `path` and renames it to `path` once it is complete and on disk.

    On an exception `path` stays as it was and the unfinished file is removed. Folders are made as needed.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(prefix=UNFINISHED, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o666 & ~_umask())
        os.replace(unfinished, path)
    except BaseException:
        if os.path.exists(unfinished):
            os.remove(unfinished)
        raise


def make_folder(path: str) -> None:
    """Makes a folder that results go to; UserError where that fails."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror}); choose another directory") from None


def check_room(folder: str, num_bytes: int) -> None:
    """UserError where the disk of `folder`, which need not exist yet, has less than `num_bytes` free."""
    place = os.path.abspath(folder)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: needs {num_bytes / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB left; make room or choose "
            "another path"
        )


def write_json(path: str, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with write_atomic(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def remove_unfinished(folder: str) -> None:
    """Removes what a killed process was writing in `folder`. Nobody else may be writing there."""
    for path in glob.glob(os.path.join(glob.escape(folder), f"{UNFINISHED}*")):
        os.remove(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
