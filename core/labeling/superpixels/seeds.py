"""SEEDS superpixels in numba: label for label those of OpenCV 4.11, in less than a tenth of its time.

Van den Bergh, Boix, Roig, de Capitani, Van Gool, "SEEDS: Superpixels Extracted via Energy-Driven Sampling", ECCV 2012.
Superpixels start as a grid of blocks. Blocks at their rims go over to the neighbour whose colour histogram they suit
better, coarse blocks first (seeds_blocks.py), then single pixels do (seeds_pixels.py). OpenCV keeps a full histogram of
each block of every level; here a block has the short list of its colours, made when the block is first looked at.

OpenCV's own is not taken instead, since it is in the contrib part alone, whose package overwrites the main one's files
where both are installed, and since even an object that is reused takes some eight times as long for the same labels.
"""

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.superpixels.seeds_blocks import Superpixels, move_blocks
from core.labeling.superpixels.seeds_levels import block_levels
from core.labeling.superpixels.seeds_pixels import move_pixels
from core.running.compiled import njit

MAX_BINS = 40  # per channel: their cube numbers the colours in 16 bits
REQUIRED_GAIN = 0.1  # of the histogram intersection, in the first of two sweeps with `double_step`


def seeds_superpixels(
    hsv: NDArray[np.uint8],
    num_superpixels: int,
    num_levels: int,
    prior: int,
    histogram_bins: int,
    double_step: bool,
    iterations: int,
) -> NDArray[np.int32]:
    """Superpixel ids int32 [H, W] of an image uint8 [H, W, 3]; the other arguments as in SuperpixelParameters.

    Raises:
        UserError: the numbers do not suit the image's size (see `block_levels`), or histogram_bins is not 1..40.
    """
    check_bins(histogram_bins)
    levels = block_levels(hsv.shape[:2], num_superpixels, num_levels)
    top = levels[-1]
    num_labels = top.rows * top.columns
    grid = np.arange(num_labels, dtype=np.uint16).reshape(top.rows, top.columns)
    colors, num_colors = _colors(np.ascontiguousarray(hsv), histogram_bins)
    superpixels = Superpixels(
        histogram=np.zeros((num_labels, num_colors), np.float32),
        area=np.zeros(num_labels, np.float32),
        parts=np.full(num_labels, 4, np.int64),  # as OpenCV counts, also where an odd grid makes it six or nine
    )
    start = grid
    for level in levels[-2::-1]:
        start = level.children(start)
    _count(levels[0].pixels(start), colors, superpixels.histogram, superpixels.area)

    gains = (REQUIRED_GAIN, 0.0) if double_step else (0.0,)
    for k in range(len(levels) - 2, -1, -1):
        grid = levels[k].children(grid)
        if k < len(levels) - 2:
            superpixels.parts[:] = np.bincount(grid.ravel(), minlength=num_labels)
        move_blocks(grid, levels[k], colors, superpixels, gains)
    return move_pixels(levels[0].pixels(grid), colors, superpixels, prior, iterations).astype(np.int32)


def check_bins(histogram_bins: int) -> None:
    """Raises UserError where SEEDS cannot count its colours."""
    if not 1 <= histogram_bins <= MAX_BINS:
        raise UserError(f"dataset.seeds.histogram_bins: expected 1..{MAX_BINS}, found {histogram_bins}")


@njit(cache=True, nogil=True)
def _colors(hsv, bins):  # type: ignore[no-untyped-def]
    """Colour uint16 [H, W] of each pixel, and the number of colours.

    Colours are the cells of a cube of `bins` bins per channel, each 256 / bins wide, that occur in the image, numbered
    in the cells' order: histograms of what occurs fit into the processor's cache.
    """
    height, width, _ = hsv.shape
    bin_of = np.empty(256, np.uint32)
    for value in range(256):
        bin_of[value] = value * bins // 256
    side = np.uint32(bins)
    cells = np.empty((height, width), np.uint16)
    number = np.zeros(bins**3, np.int64)
    for y in range(height):
        for x in range(width):
            cell = (bin_of[hsv[y, x, 0]] * side + bin_of[hsv[y, x, 1]]) * side + bin_of[hsv[y, x, 2]]
            cells[y, x] = cell
            number[cell] = 1
    num_colors = number.sum()
    number[:] = np.cumsum(number) - 1
    for y in range(height):
        for x in range(width):
            cells[y, x] = number[cells[y, x]]
    return cells, num_colors


@njit(cache=True, nogil=True)
def _count(labels, colors, histogram, area_of):  # type: ignore[no-untyped-def]
    """Adds every pixel to the histogram and the area of its superpixel."""
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            histogram[labels[y, x], colors[y, x]] += np.float32(1)
            area_of[labels[y, x]] += np.float32(1)
