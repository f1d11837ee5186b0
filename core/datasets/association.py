"""Which pixels the points are associated with: superpixels carry the classes of the annotated points in them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit


def superpixel_ids(
    maps: Iterable[NDArray[np.integer]], camera: NDArray[np.integer], pixel: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Looks up the superpixel of each point, nearest-below pixel.

    Args:
        maps: per camera [H, W], superpixel ids of the resized image, >= 0.
        camera: [N], the camera that counts for the point, -1 where none sees it.
        pixel: float64 [N, 2], (u, v) in [-1, 1] in that camera.
    Returns int64 [N], ids that are unique over the cameras: the maximum + 1 of the camera before is added, running.
    Points that no camera sees have 0.
    """
    ids = np.zeros(len(camera), np.int64)
    offset = 0
    for k, superpixels in enumerate(maps):
        _look_up(superpixels, camera, k, pixel, offset, ids)
        offset += int(superpixels.max()) + 1
    return ids


@njit(cache=True)
def _look_up(superpixels, camera, k, pixel, offset, ids):  # type: ignore[no-untyped-def]
    """Fills ids [N] for the points of camera `k`; the pixel is that of `pixel_cells`."""
    height, width = superpixels.shape
    for i in range(len(camera)):
        if camera[i] == k:
            column = np.int64(np.floor((pixel[i, 0] + 1) / 2 * (width - 1)))
            row = np.int64(np.floor((pixel[i, 1] + 1) / 2 * (height - 1)))
            if not (0 <= column < width and 0 <= row < height):
                raise ValueError("pixel coordinates should lie in [-1, 1]")
            ids[i] = np.int64(superpixels[row, column]) + offset


def association_targets(
    superpixel_id: NDArray[np.integer], sparse_label: NDArray[np.integer], seen: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Spreads annotations over superpixels.

    A superpixel whose annotated points are of one class gives all its points that class; annotated points keep their
    own class.

    Args:
        superpixel_id: [N], >= 0.
        sparse_label: [N], class of an annotated point, 0 = none.
        seen: bool [N]; points that no camera sees neither give nor get a target.
    Returns uint8 [N], 0 = no target.
    """
    if len(superpixel_id) == 0:
        return np.zeros(0, np.uint8)
    annotated = np.flatnonzero((sparse_label > 0) & seen)
    classes = sparse_label[annotated].astype(np.uint8)
    superpixels = superpixel_id[annotated]
    lowest = np.full(int(superpixel_id.max()) + 1, 255, np.uint8)
    highest = np.zeros_like(lowest)
    np.minimum.at(lowest, superpixels, classes)
    np.maximum.at(highest, superpixels, classes)
    targets = np.where(lowest == highest, highest, np.uint8(0))[superpixel_id]
    targets[annotated] = classes
    targets[~seen] = 0
    return targets
