"""Resized camera images, stored as they are: reading them takes a tenth of decoding and resizing the files again.

One file per frame, named by its token: NumPy's format (`numpy.load` opens it), uint8 [K, 3, H, W], followed by JSON
with the frame's token, what the images were made with, and their CRC.
"""

import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import CameraView
from core.datasets.resize import resize_planar
from core.label_files.archive import FORMATS, check_header, check_identity
from core.label_files.errors import IMAGE_CACHE, broken, foreign, label_path, missing, writing
from core.running.files import write_atomic

Shape = tuple[int, ...]


def resized_images(reader: Reader, cameras: Sequence[CameraView], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reads the images of a frame and resizes them to `size` = (height, width): uint8 [K, 3, height, width], RGB.

    Raises UserError where an image is missing or broken.
    """
    images = np.empty((len(cameras), 3, *size), np.uint8)
    for image, view in zip(images, cameras, strict=True):
        resize_planar(reader.load_image(view), size, out=image)
    return images


def cache_parameters(size: tuple[int, int]) -> dict[str, Any]:
    """What the images depend on besides their files; part of the directory's meta.json."""
    return {"image_size": list(size), "resize": "bilinear, antialiased, as PIL"}


class ImageCache:
    """Reads the images of frames instead of `resized_images`, with the same result.

    Args:
        directory: of one split.
        size: (height, width) of the images.
        parameters_hash: of the directory's meta.json; a file that carries another is refused.
    """

    def __init__(self, directory: str, size: tuple[int, int], parameters_hash: str | None = None):
        self.directory, self.size, self.parameters_hash = directory, size, parameters_hash

    def read(self, token: str, num_cameras: int) -> NDArray[np.uint8]:
        """uint8 [num_cameras, 3, height, width] of a frame. Raises BrokenFile, ForeignFile (both UserError)."""
        return read_images(self.directory, token, (num_cameras, 3, *self.size), self.parameters_hash)


def write_images(directory: str, token: str, images: NDArray[np.uint8], parameters_hash: str) -> None:
    """Writes the resized images uint8 [K, 3, H, W] of one frame."""
    images = np.ascontiguousarray(images)
    header = {"kind": IMAGE_CACHE, "format": FORMATS[IMAGE_CACHE], "token": token, "parameters": parameters_hash}
    path = label_path(directory, IMAGE_CACHE, token)
    with writing(path), write_atomic(path) as file:
        file.write(_array_head(images.shape))
        file.write(images.data)
        file.write(json.dumps({**header, "crc": zlib.crc32(images.data)}, sort_keys=True).encode())


def read_images(directory: str, token: str, shape: Shape, parameters_hash: str | None = None) -> NDArray[np.uint8]:
    """Reads the images uint8 `shape` of one frame, every byte checked by the CRC.

    Raises BrokenFile or ForeignFile (both UserError), naming the file and the command that makes it anew.
    """
    path = label_path(directory, IMAGE_CACHE, token)
    images = np.empty(shape, np.uint8)
    with _reading(path) as file:
        head = _array_head(shape)
        if file.read(len(head)) != head:
            file.seek(0)
            found = _read_shape(file)
            raise foreign(path, IMAGE_CACHE, f"holds images of shape {found} (cameras, RGB, H, W), expected {shape}")
        if file.readinto(images.reshape(-1).data) != images.size:  # type: ignore[attr-defined]
            raise ValueError("it ends early")
        header = json.loads(file.read())
        if header["crc"] != zlib.crc32(images.data):
            raise ValueError("the CRC is wrong")
    check_header(path, IMAGE_CACHE, header)
    check_identity(path, IMAGE_CACHE, header, token, parameters_hash)
    return images


def file_size(num_cameras: int, size: tuple[int, int]) -> int:
    """Bytes of one frame's images."""
    return num_cameras * 3 * size[0] * size[1]


@lru_cache(maxsize=8)
def _array_head(shape: Shape) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _read_shape(file: IO[bytes]) -> Shape:
    """The shape that the array's head tells; the file stands behind it then."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of NumPy's format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if by_columns or dtype != np.uint8:
        raise ValueError("not an array of uint8 in rows")
    return shape


@contextmanager
def _reading(path: str) -> Iterator[IO[bytes]]:
    """Opens a file, and turns a failure to read it into the label errors."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise missing(path, IMAGE_CACHE) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise broken(path, IMAGE_CACHE, f"truncated or damaged image cache file ({error})") from error
