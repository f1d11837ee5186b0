"""Reading 16-bit greyscale PNGs as `png.encode_png` writes them, without PIL: in a third of its time.

Files whose rows are filtered, as other programs write them, are left to PIL.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.label_files.png import SIGNATURE

END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


@dataclass(frozen=True)
class Head:
    """What a file says of itself before its pixels.

    Attributes:
        size: (height, width).
        gray16: whether it is 16-bit greyscale, rows from top to bottom.
        texts: its Latin-1 texts by keyword.
    """

    size: tuple[int, int]
    gray16: bool
    texts: dict[str, str]


def read_head(content: bytes) -> Head:
    """Reads the beginning of a file (HEAD_BYTES or all of it); ValueError where it is damaged."""
    size, gray16 = None, False
    texts: dict[str, str] = {}
    for kind, data in _chunks(content, before=b"IDAT"):
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", data)
            size, gray16 = (height, width), rest == [16, 0, 0, 0, 0]
        elif kind == b"tEXt":
            keyword, _, text = data.decode("latin-1").partition("\0")
            texts[keyword] = text
    if size is None:
        raise ValueError("no size")
    return Head(size, gray16, texts)


def verify(content: bytes) -> None:
    """ValueError unless the file is whole and all its checksums are right."""
    if list(_chunks(content))[-1:] != [(b"IEND", b"")]:
        raise ValueError("no end")


def decode(content: bytes) -> NDArray[np.uint16]:
    """uint16 [H, W] of a verified file that is plain 16-bit greyscale; ValueError where the pixels are damaged."""
    height, width = read_head(content).size
    data = b"".join(data for kind, data in _chunks(content) if kind == b"IDAT")
    try:
        rows = np.frombuffer(zlib.decompress(data, bufsize=height * (1 + 2 * width)), np.uint8)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(rows) != height * (1 + 2 * width):
        raise ValueError(f"{len(rows)} bytes of pixels, expected {height} rows of {1 + 2 * width}")
    rows = rows.reshape(height, -1)
    if rows[:, 0].any():
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image, dtype=np.uint16)
    return np.ascontiguousarray(rows[:, 1:]).view(">u2").astype(np.uint16)


def _chunks(content: bytes, before: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of each chunk, up to the first of kind `before`; ValueError where one is damaged or cut short."""
    position = len(SIGNATURE)
    while position < len(content):
        kind = content[position + 4 : position + 8]
        if kind == before:
            return
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 8 + length
        data = content[position + 8 : end]
        if content[end : end + 4] != _checksum(kind, data):
            raise ValueError(f"chunk {kind!r} is damaged or cut short")
        yield kind, data
        position = end + 4


def _checksum(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
