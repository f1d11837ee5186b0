"""Resized camera images, stored as they are: reading them takes a tenth of decoding and resizing the files again.

One file per frame, named by its token, as `numpy.save` writes it: uint8 [K, 3, H, W].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import CameraView
from core.label_files.errors import IMAGE_CACHE, broken, foreign, label_path, missing, writing
from core.running.files import write_atomic


def resized_images(reader: Reader, cameras: Sequence[CameraView], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reads the images of a frame and resizes them to `size` = (height, width): uint8 [K, 3, height, width], RGB.

    Raises UserError where an image is missing or broken.
    """
    from core.datasets.images import resize_planar  # needs torch, which is slow to import

    images = np.empty((len(cameras), 3, *size), np.uint8)
    for image, view in zip(images, cameras, strict=True):
        image[:] = resize_planar(reader.load_image(view), size)
    return images


def cache_parameters(size: tuple[int, int]) -> dict[str, Any]:
    """What the images depend on besides their files; part of the directory's meta.json."""
    return {"image_size": list(size), "resize": "bilinear, antialiased, by PyTorch"}


def write_images(directory: str, token: str, images: NDArray[np.uint8]) -> None:
    """Writes the resized images uint8 [K, 3, H, W] of one frame."""
    path = label_path(directory, IMAGE_CACHE, token)
    with writing(path), write_atomic(path) as file:
        np.save(file, images)


def read_images(directory: str, token: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Reads the images uint8 `shape` = [K, 3, H, W] of one frame.

    Raises BrokenFile or ForeignFile (both UserError), naming the file and the command that makes it anew.
    """
    path = label_path(directory, IMAGE_CACHE, token)
    try:
        with open(path, "rb") as file:
            images = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise missing(path, IMAGE_CACHE) from None
    except (OSError, ValueError) as error:
        raise broken(path, IMAGE_CACHE, f"truncated or damaged image cache file ({error})") from error
    if images.dtype != np.uint8 or images.shape != shape:
        what = f"holds {images.dtype} {images.shape} (cameras, RGB, H, W), expected uint8 {shape}"
        raise foreign(path, IMAGE_CACHE, what)
    return images
