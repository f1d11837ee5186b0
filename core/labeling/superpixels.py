"""Superpixels of camera images: OpenCV's SEEDS on the equalised image in HSV."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.parameters import SuperpixelParameters

OPENCV_INSTALL = "pip install --force-reinstall --no-deps opencv-contrib-python-headless==4.11.0.86"
MAX_IDS = 65536  # they are stored in 16 bits


def make_superpixels(image: NDArray[np.uint8], parameters: SuperpixelParameters) -> NDArray[np.int32]:
    """Superpixel ids int32 [H, W] of an image uint8 [H, W, 3], RGB, that has `parameters.image_size`.

    The result depends on the image, the parameters and OpenCV's version only.
    """
    if image.shape != (*parameters.image_size, 3):
        raise ValueError(f"image of shape {image.shape}, expected {(*parameters.image_size, 3)}")
    seeds = _seeds(parameters)
    seeds.iterate(equalize(image), parameters.iterations)
    ids = seeds.getLabels()
    assert ids.min() >= 0 and ids.max() < MAX_IDS, "superpixel ids should fit into 16 bits"
    return ids.copy()


def equalize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalises the brightness (Y of YUV) of an RGB image uint8 [H, W, 3] and returns it in HSV."""
    cv2 = import_opencv()
    yuv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.equalizeHist(yuv[..., 0])
    return cv2.cvtColor(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), cv2.COLOR_RGB2HSV)


def import_opencv() -> Any:
    """OpenCV with its contrib part, or a UserError that says how to install it."""
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise UserError(f"superpixels need OpenCV, which does not import ({error}): {OPENCV_INSTALL}") from error
    if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSEEDS"):
        raise UserError(f"superpixels need OpenCV's contrib part, which this cv2 lacks: {OPENCV_INSTALL}")
    return cv2


@lru_cache(maxsize=8)
def _seeds(parameters: SuperpixelParameters) -> Any:
    """One SEEDS object per process and image size: a reused one gives the same labels, in half the time."""
    height, width = parameters.image_size
    return import_opencv().ximgproc.createSuperpixelSEEDS(
        width,
        height,
        3,
        parameters.num_superpixels,
        parameters.num_levels,
        parameters.prior,
        parameters.histogram_bins,
        parameters.double_step,
    )
