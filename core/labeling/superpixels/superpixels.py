"""Superpixels of camera images: SEEDS on the equalised image in HSV, in numba or by OpenCV."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.annotation.parameters import SuperpixelParameters
from core.labeling.superpixels.equalize import equalize
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
    return seeds_superpixels(
        equalize(image),
        parameters.num_superpixels,
        parameters.num_levels,
        parameters.prior,
        parameters.histogram_bins,
        parameters.double_step,
        parameters.iterations,
    )


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
    if parameters.implementation == "numba":
        return {"labels_of_opencv": REPRODUCED}
    cv2 = import_opencv()
    cv2.setNumThreads(1)
    return {"opencv": cv2.__version__}


def import_opencv() -> Any:
    """OpenCV with its contrib part, or a UserError that says how to install it."""
    remedy = f"{OPENCV_INSTALL}, or choose implementation numba"
    try:
        import cv2
    except (ImportError, OSError) as error:
        raise UserError(
            f"dataset.seeds.implementation is opencv, but OpenCV does not import ({error}): {remedy}"
        ) from error
    if not hasattr(getattr(cv2, "ximgproc", None), "createSuperpixelSEEDS"):
        raise UserError(
            f"dataset.seeds.implementation is opencv, which needs OpenCV's contrib part; this cv2 lacks it: {remedy}"
        )
    return cv2


@lru_cache(maxsize=8)
def _opencv_seeds(parameters: SuperpixelParameters) -> Any:
    """One SEEDS object per process and image size: a reused one gives the same labels, in two thirds of the time."""
    check_implementation(parameters)
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
