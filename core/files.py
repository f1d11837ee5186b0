"""Writing files so that a reader never sees half of one."""

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

UNFINISHED = ".unfinished-"


@contextmanager
def write_atomic(path: str) -> Iterator[IO[bytes]]:
    """Opens a binary file beside `path` and renames it to `path` once it is complete and on disk.

    On an exception `path` stays as it was and the unfinished file is removed. Folders are made as needed.
    """
    try:
        yield from _write_and_rename(path)
    except OSError as error:
        error.filename, error.filename2 = path, None  # not the unfinished file's name, or none at all
        raise


def _write_and_rename(path: str) -> Iterator[IO[bytes]]:
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
