"""Label archives: a compressed .npz with a JSON header, the same bytes for the same content."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.label_files.errors import IMAGE_CACHE, NOUNS, SUPERPIXEL, broken, foreign, missing, writing
from core.running.files import write_atomic

FORMATS = {kind: 1 for kind in NOUNS} | {SUPERPIXEL: 2, IMAGE_CACHE: 2}
"""Version of each kind's files and meta.json. Superpixels of format 1 were a PNG an image."""
LEVEL = 5  # of deflate: higher ones save 5 % of superpixels' bytes for half as much time again
HEADER = "header.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError, RuntimeError)
"""What damaged archives give rise to; a flipped bit may say "encrypted", which is a RuntimeError."""


def write_archive(path: str, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes `header` (JSON values) and `arrays` into one compressed archive, atomically."""
    with writing(path), write_atomic(path) as file, zipfile.ZipFile(file, "w") as archive:
        _write_member(archive, HEADER, json.dumps(header, sort_keys=True).encode())
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            _write_member(archive, name + ".npy", buffer.getvalue())


def read_archive(path: str, kind: str, members: Mapping[str, type]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Reads the header and the 1-D arrays named in `members` (name -> dtype), checking every byte by its CRC.

    Raises BrokenFile (missing, truncated, damaged) or ForeignFile (not an archive of this kind).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if HEADER not in archive.namelist():
                raise foreign(path, kind, f"not a {NOUNS[kind]} file of this project's format")
            header = json.loads(archive.read(HEADER))
            check_header(path, kind, header)
            arrays = {name: _read_member(archive, name + ".npy") for name in members}
    except FileNotFoundError:
        raise missing(path, kind) from None
    except _UNREADABLE as error:
        raise _unreadable(path, kind, error) from error
    for name, dtype in members.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 1:
            raise broken(path, kind, f"'{name}' should be {np.dtype(dtype)} with one axis")
    return header, arrays


def check_header(path: str, kind: str, header: Any) -> None:
    """Raises ForeignFile unless `header` is that of this kind and format version."""
    found = (header.get("kind"), header.get("format")) if isinstance(header, dict) else (None, None)
    if found != (kind, FORMATS[kind]):
        what = f"not a {NOUNS[kind]} file of format {FORMATS[kind]} (found: {found[0]}, format {found[1]})"
        raise foreign(path, kind, what)


def check_identity(path: str, kind: str, header: Mapping[str, Any], token: str, parameters: str | None) -> None:
    """Raises BrokenFile for the file of another frame, ForeignFile for one made with other parameters."""
    if header.get("token") != token:
        raise broken(path, kind, f"holds the {NOUNS[kind]} of another frame ({header.get('token')})")
    if parameters is not None and header.get("parameters") != parameters:
        what = f"made with other parameters (hash {header.get('parameters')}, expected {parameters})"
        raise foreign(path, kind, what)


def _write_member(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    archive.writestr(info, content, compresslevel=LEVEL)


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    content = archive.read(name)  # to the end, so that the CRC is checked
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _unreadable(path: str, kind: str, error: Exception) -> Exception:
    try:
        with open(path, "rb") as file:
            start = file.read(2)
    except OSError:
        return broken(path, kind, f"cannot be read ({error})")
    if start in (b"", b"P", b"PK"):
        return broken(path, kind, f"truncated or damaged {NOUNS[kind]} file ({error})")
    return foreign(path, kind, f"not a {NOUNS[kind]} file of this project's format")
