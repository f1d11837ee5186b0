"""SEEDS, first part: blocks go over to the neighbouring superpixel whose histogram they resemble more."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.labeling.superpixels.seeds_levels import Level
from core.running.compiled import njit


class Superpixels(NamedTuple):
    """What is counted of S superpixels.

    Compiled functions get this and the like as plain tuples: numba's caches would tie them to the class's place.

    Attributes:
        histogram: float32 [S, colours], pixels of each colour.
        area: float32 [S], pixels.
        parts: int64 [S], blocks; a superpixel keeps at least one.
    """

    histogram: NDArray[np.float32]
    area: NDArray[np.float32]
    parts: NDArray[np.int64]


class Blocks(NamedTuple):
    """The blocks of one level, numbered row by row, and lists of the colours that occur in them.

    Attributes:
        image: uint16 [H, W], colour of each pixel.
        row_starts, column_starts: as in Level.
        areas: float32 [blocks], pixels.
        starts: int64 [blocks], first entry of each block's list.
        listed: int32 [blocks], entries in it; 0 = not made yet.
        colors, counts: uint16, float32 [H * W], the lists: colours in ascending order, and how many pixels have each.
        tally: float32 [all colours], zero between two uses.
    """

    image: NDArray[np.uint16]
    row_starts: NDArray[np.int64]
    column_starts: NDArray[np.int64]
    areas: NDArray[np.float32]
    starts: NDArray[np.int64]
    listed: NDArray[np.int32]
    colors: NDArray[np.uint16]
    counts: NDArray[np.float32]
    tally: NDArray[np.float32]


def move_blocks(
    grid: NDArray[np.uint16],
    level: Level,
    image: NDArray[np.uint16],
    superpixels: Superpixels,
    gains: tuple[float, ...],
) -> None:
    """Sweeps over pairs of neighbouring blocks, along rows and then along columns, once for each of `gains`.

    Args:
        grid: uint16 [rows, columns], contiguous: the superpixel of each block; changed in place.
        image: uint16 [H, W], colour of each pixel.
        superpixels: changed in place.
        gains: a block goes over when that raises the intersection of its histogram with its superpixel's by more.
    """
    areas = np.outer(np.diff(level.row_starts), np.diff(level.column_starts)).ravel()
    blocks = Blocks(
        image=image,
        row_starts=level.row_starts,
        column_starts=level.column_starts,
        areas=areas.astype(np.float32),
        starts=np.cumsum(areas) - areas,
        listed=np.zeros(grid.size, np.int32),
        colors=np.empty(image.size, np.uint16),
        counts=np.empty(image.size, np.float32),
        tally=np.zeros(superpixels.histogram.shape[1], np.float32),
    )
    rows, columns = grid.shape
    labels = grid.reshape(-1)
    for gain in np.asarray(gains, np.float32):
        _sweep(labels, rows, columns, columns, 1, gain, tuple(blocks), tuple(superpixels))
        _sweep(labels, columns, rows, 1, columns, gain, tuple(blocks), tuple(superpixels))


@njit(cache=True, nogil=True)
def stays_whole(own, diagonal, side, back, other_side, other_diagonal):  # type: ignore[no-untyped-def]
    """Whether a cell may leave superpixel `own` without cutting it, as far as five of its neighbours tell.

    They lie, in this order, around its back, away from the superpixel that it would go over to: diagonally behind it,
    beside it, straight behind it, beside it on the other side, diagonally behind it there.
    """
    beside, beside_other, behind = side == own, other_side == own, back == own
    cut = beside and beside_other and not behind
    cut |= beside and behind and diagonal != own
    cut |= beside_other and behind and other_diagonal != own
    return not cut


@njit(cache=True, nogil=True, error_model="numpy")
def _sweep(labels, num_lines, length, line_step, step, gain, blocks, superpixels):  # type: ignore[no-untyped-def]
    """Looks at each pair of neighbours on each line but the outermost: the first may go over, else the second.

    Lines are rows (line_step = columns, step = 1) or columns (line_step = 1, step = columns) of the grid.
    """
    _, _, _, areas, starts, listed, colors, counts, _ = blocks
    histogram, area_of, parts = superpixels
    for line in range(1, num_lines - 1):
        position = 1
        while position < length - 2:
            first = line * line_step + position * step
            position += 1
            if labels[first] == labels[first + step]:
                continue
            for side in range(2):
                block, back = (first, -step) if side == 0 else (first + step, step)
                own, target = labels[block], labels[block - back]
                if not _may_leave(labels, parts, block, back, line_step):
                    continue
                if listed[block] == 0:
                    listed[block] = _list_colors(blocks, block)
                start, end, area = starts[block], starts[block] + listed[block], areas[block]
                if _gain(histogram, area_of, own, target, colors, counts, start, end, area) > gain:
                    for k in range(start, end):
                        histogram[own, colors[k]] -= counts[k]
                        histogram[target, colors[k]] += counts[k]
                    area_of[own] -= area
                    area_of[target] += area
                    parts[own] -= 1
                    parts[target] += 1
                    labels[block] = target
                    position += side  # the second, moved, is not looked at again
                    break


@njit(cache=True, nogil=True)
def _may_leave(labels, parts, block, back, line_step):  # type: ignore[no-untyped-def]
    """Whether a block may leave its superpixel, which lies in direction `back` if it still has other parts there."""
    own = labels[block]
    if parts[own] <= 2:
        return parts[own] == 2
    up, down = block - line_step, block + line_step
    return stays_whole(own, labels[up + back], labels[up], labels[block + back], labels[down], labels[down + back])


@njit(cache=True, nogil=True, error_model="numpy")
def _gain(histogram, area_of, own, target, colors, counts, start, end, area):  # type: ignore[no-untyped-def]
    """Intersection of the block's normalised histogram with that of `target`, less that with the rest of its own.

    In float32 and in the order of the colours, as OpenCV adds: its sums may exceed 2**24, and are rounded then.
    """
    area_target, area_rest = area_of[target], area_of[own] - area
    shared_target, shared_rest = np.float32(0), np.float32(0)
    for k in range(start, end):
        color, count = colors[k], counts[k]
        shared_target += min(histogram[target, color] * area, count * area_target)
        shared_rest += min((histogram[own, color] - count) * area, count * area_rest)
    return shared_target / (area_target * area) - shared_rest / (area_rest * area)  # NaN where there is no rest


@njit(cache=True, nogil=True)
def _list_colors(blocks, block):  # type: ignore[no-untyped-def]
    """Lists the colours of a block; returns their number."""
    image, row_starts, column_starts, _, starts, _, colors, counts, tally = blocks
    row, column = divmod(block, column_starts.size - 1)
    start = end = starts[block]
    for y in range(row_starts[row], row_starts[row + 1]):
        for x in range(column_starts[column], column_starts[column + 1]):
            color = image[y, x]
            if tally[color] == 0:
                k = end
                while k > start and colors[k - 1] > color:
                    colors[k] = colors[k - 1]
                    k -= 1
                colors[k] = color
                end += 1
            tally[color] += np.float32(1)
    for k in range(start, end):
        counts[k] = tally[colors[k]]
        tally[colors[k]] = 0
    return end - start
