"""Superpixels of camera images: SEEDS on the equalised image in HSV, in numba or by OpenCV."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.annotation.parameters import SuperpixelParameters
from core.labeling.superpixels.seeds import check_bins, seeds_superpixels
from core.labeling.superpixels.seeds_levels import block_levels

OPENCV_INSTALL = "pip install --force-reinstall --no-deps opencv-contrib-python-headless==4.11.0.86"
REPRODUCED = "4.11.0"
"""The version of OpenCV whose labels the implementation in numba gives."""


def make_superpixels(image: NDArray[np.uint8], parameters: SuperpixelParameters) -> NDArray[np.int32]:
    """Superpixel ids int32 [H, W], below 65 536, of an image uint8 [H, W, 3], RGB, that has `parameters.image_size`.

    The result depends on the image, the parameters and, with `opencv`, on OpenCV's version only.
    """
    if image.shape != (*parameters.image_size, 3):
        raise ValueError(f"image of shape {image.shape}, expected {(*parameters.image_size, 3)}")
    if parameters.implementation == "opencv":
        seeds = _opencv_seeds(parameters)
        seeds.iterate(equalize(image), parameters.iterations)
        return seeds.getLabels().copy()
    return seeds_superpixels(equalize(image), *_numbers(parameters), parameters.iterations)


def equalize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalises the brightness (Y of YUV) of an RGB image uint8 [H, W, 3]; returns it in HSV, hue 0..179."""
    cv2 = import_opencv()
    yuv = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.equalizeHist(np.ascontiguousarray(yuv[..., 0]))
    hsv: NDArray[np.uint8] = cv2.cvtColor(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), cv2.COLOR_RGB2HSV)
    return hsv


def check_implementation(parameters: SuperpixelParameters) -> dict[str, Any]:
    """What the labels depend on beside the parameters: OpenCV's version, or that of which ours gives the labels.

    Raises UserError: an unknown implementation, numbers that do not suit the image's size, OpenCV missing where needed.
    """
    known = ("numba", "opencv")
    if parameters.implementation not in known:
        raise UserError(
            f"dataset.seeds.implementation: none is named '{parameters.implementation}' (known: {', '.join(known)})"
        )
    check_bins(parameters.histogram_bins)
    block_levels(parameters.image_size, parameters.num_superpixels, parameters.num_levels)
    cv2 = import_opencv(contrib=parameters.implementation == "opencv")
    cv2.setNumThreads(1)
    if parameters.implementation == "numba":
        return {"labels_of_opencv": REPRODUCED}
    return {"opencv": cv2.__version__}


def import_opencv(contrib: bool = False) -> Any:
    """OpenCV, with its contrib part where asked for; or a UserError that says how to install it."""
    try:
        import cv2
    except (ImportError, OSError) as error:
        install = OPENCV_INSTALL if contrib else "pip install opencv-python-headless==4.11.0.86"
        raise UserError(f"superpixels need OpenCV, which does not import ({error}): {install}") from error
    remedy = f"{OPENCV_INSTALL}, or choose implementation numba"
    if contrib and not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSEEDS"):
        raise UserError(
            f"dataset.seeds.implementation is opencv, which needs OpenCV's contrib part; this cv2 lacks it: {remedy}"
        )
    return cv2


@lru_cache(maxsize=8)
def _opencv_seeds(parameters: SuperpixelParameters) -> Any:
    """One SEEDS object per process and image size: a reused one gives the same labels, in two thirds of the time."""
    check_implementation(parameters)
    height, width = parameters.image_size
    create = import_opencv(contrib=True).ximgproc.createSuperpixelSEEDS
    return create(width, height, 3, *_numbers(parameters))


def _numbers(parameters: SuperpixelParameters) -> tuple[int, int, int, int, bool]:
    """Those that both implementations take, in this order."""
    p = parameters
    return p.num_superpixels, p.num_levels, p.prior, p.histogram_bins, p.double_step
