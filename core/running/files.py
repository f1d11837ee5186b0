"""Files: writing them so that a reader never sees half of one, and finding out which of many are there."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, Any

from core.errors import UserError

UNFINISHED = ".unfinished-"
_THREADS = 32
"""How many files are asked for at a time: on a network disk each answer takes a round trip."""


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


def read_json(path: str, mend: str) -> Any:
    """The content of a JSON file; UserError, with what mends it, where that cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); {mend}") from None


def remove_unfinished(folder: str) -> None:
    """Removes what a killed process was writing in `folder`. Nobody else may be writing there."""
    for path in glob.glob(os.path.join(glob.escape(folder), f"{UNFINISHED}*")):
        with suppress(FileNotFoundError):  # a slow file system lists what is gone
            os.remove(path)


def absent_files(paths: Iterable[str]) -> list[str]:
    """Those of `paths` at which there is no file, links followed; folder by folder, each once.

    Each folder is listed once. What its listing calls a regular file is one; links, and names that are not listed, are
    asked for one by one, in parallel.
    """
    of_folder: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        folder, _, name = path.rpartition("/")
        of_folder.setdefault(folder, []).append(name)
    with ThreadPoolExecutor(_THREADS) as pool:
        listings = pool.map(_regular_files, of_folder)
        doubtful = [
            f"{folder}/{name}" if folder else name
            for (folder, names), listed in zip(of_folder.items(), listings, strict=True)
            for name in names
            if name not in listed
        ]
        size = len(doubtful) // _THREADS + 1
        parts = [doubtful[begin : begin + size] for begin in range(0, len(doubtful), size)]
        return [path for absent in pool.map(_not_there, parts) for path in absent]


def _regular_files(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    except OSError:
        return frozenset()


def _not_there(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not os.path.isfile(path)]


def why_absent(path: str) -> str:
    """Why there is no file at `path`, as the end of a sentence; names a link on the way that leads nowhere."""
    place = os.path.abspath(path)
    way = [place]
    while os.path.dirname(way[-1]) != way[-1]:
        way.append(os.path.dirname(way[-1]))
    for step in reversed(way):
        if os.path.islink(step) and not os.path.exists(step):
            what = "is" if step == place else f"is missing, {step} being"
            return f"{what} a dead link to {os.readlink(step)} (is that disk mounted?)"
    try:
        os.stat(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return "is no file"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
