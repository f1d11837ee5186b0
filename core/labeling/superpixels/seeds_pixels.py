"""SEEDS, second part: pixels at the rims of superpixels go over to the one where their colour is more frequent."""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from core.labeling.superpixels.seeds_blocks import Superpixels, stays_whole
from core.running.compiled import njit

_ONE = np.uint64(1)


class Lines(NamedTuple):
    """The image as lines of pixels: its rows or, transposed, its columns.

    Attributes:
        labels: uint16 [lines, length], superpixels; one line more for columns (see `move_pixels`).
        colors: uint16 [lines, length].
        rims: uint64 [lines, words]: bit i is set where pixels i and i + 1 of a line differ in their label, so that
            a sweep jumps from rim to rim. Bits that `swept` leaves out are not kept up.
        swept: uint64 [words], the bits that a sweep looks at: 1 .. length - 3.
        reach: line, seen from a pair, whose two pixels opposite to the pair count as neighbours on its far side.
    """

    labels: NDArray[np.uint16]
    colors: NDArray[np.uint16]
    rims: NDArray[np.uint64]
    swept: NDArray[np.uint64]
    reach: int


def move_pixels(
    labels: NDArray[np.uint16], colors: NDArray[np.uint16], superpixels: Superpixels, prior: int, iterations: int
) -> NDArray[np.uint16]:
    """Sweeps `iterations` times over rows and columns; returns the labels uint16 [H, W].

    Args:
        labels, colors: uint16 [H, W].
        superpixels: changed in place.
        prior: 0..5, see `_prior_factors`; larger ones count as 5, negative ones as 0.
    """
    height, width = labels.shape
    labels = np.ascontiguousarray(labels)
    # In sweeps over columns OpenCV takes neighbours two columns to the right for such one to the right. In the last but
    # one column that wraps to the start of the next row: the additional line.
    transposed = np.zeros((width + 1, height), np.uint16)
    transposed[:width] = labels.T
    rows = Lines(labels, colors, _rims(labels, height), _swept(width), 1)
    columns = Lines(transposed, np.ascontiguousarray(colors.T), _rims(transposed, width), _swept(height), 2)
    prior = min(max(prior, 0), 5)
    _iterate(
        tuple(rows),
        tuple(columns),
        superpixels.histogram,
        superpixels.area,
        _prior_factors(prior),
        prior >= 2,
        iterations,
    )
    return labels


def _prior_factors(prior: int) -> NDArray[np.float32]:
    """Factor float32 [11, 11] on a pixel's tie to its own superpixel, by the neighbours of its own and of the other.

    Their ratio to the power of 0, 1, 2, 4, 8, 16 for `prior` 0..5, by squaring in float32; 1 without such neighbours.
    """
    neighbours = np.arange(11, dtype=np.float32)
    factors = np.ones((11, 11), np.float32)
    if prior > 0:
        factors[:, 1:] = neighbours[:, None] / neighbours[1:]
    for _ in range(prior - 1):
        factors *= factors
    return factors


def _swept(length: int) -> NDArray[np.uint64]:
    """See Lines."""
    bits = np.zeros(-(-length // 64) * 64, np.uint8)
    bits[1 : max(length - 2, 1)] = 1
    return np.packbits(bits, bitorder="little").view("<u8").astype(np.uint64)


@intrinsic
def _lowest_bit(typing_context, word):  # type: ignore[no-untyped-def]
    """Position of the lowest set bit of a uint64 that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def _iterate(rows, columns, histogram, area_of, factors, by_area, iterations):  # type: ignore[no-untyped-def]
    """Sweeps over rows, then columns; which pixel of a pair comes first alternates from one iteration to the next."""
    labels, colors, _, _, _ = rows
    transposed = columns[0]
    for k in range(iterations):
        forward = k % 2 == 0
        _sweep(rows, columns, histogram, area_of, factors, by_area, forward)
        transposed[-1, :-1] = transposed[0, 1:]
        _sweep(columns, rows, histogram, area_of, factors, by_area, forward)
        _follow_inside(labels, transposed, colors, histogram, area_of)


@njit(cache=True, nogil=True)
def _sweep(own, other, histogram, area_of, factors, by_area, forward):  # type: ignore[no-untyped-def]
    """Looks at each pair of neighbours on each line but the outermost whose labels differ.

    One of both (the earlier on the line if `forward`) may go over to the other's superpixel, or else the other to its.
    Of the ten pixels around the pair those of either superpixel count.
    """
    labels, colors, rims, swept, reach = own
    labels_across, _, rims_across, _, _ = other
    step = 1 if forward else -1
    for line in range(1, colors.shape[0] - 1):
        middle, up, down, far = labels[line], labels[line - 1], labels[line + 1], labels[line + reach]
        moved = np.int64(-1)
        for k in range(swept.size):
            word = rims[line, k] & swept[k]
            while word != 0:
                position = 64 * k + np.int64(_lowest_bit(word))
                word &= word - _ONE
                if position == moved:  # what has just gone over is not looked at again
                    continue
                i = position if forward else position + 1
                j = i + step
                before, after = i - step, j + step
                a, b = middle[i], middle[j]
                up0, up1, up2, up3 = up[before], up[i], up[j], up[after]
                down0, down1, down2, down3 = down[before], down[i], down[j], down[after]
                back, front = middle[before], middle[after]
                if not stays_whole(a, up0, up1, back, down1, down0):
                    continue
                ring = (up0, up1, up2, up3, back, front, down0, far[i], far[j], down3)
                near_a, near_b = _count(ring, a), _count(ring, b)
                if _suits(histogram, area_of, colors[line, i], a, b, factors[near_a, near_b], by_area):
                    moved, source, target = i, a, b
                elif stays_whole(b, up3, up2, front, down2, down3) and _suits(
                    histogram, area_of, colors[line, j], b, a, factors[near_b, near_a], by_area
                ):
                    moved, source, target = j, b, a
                else:
                    continue
                _recount(histogram, area_of, colors[line, moved], source, target)
                middle[moved] = target
                labels_across[moved, line] = target
                _set_bit(rims, line, moved - 1, middle[moved - 1] != target)
                _set_bit(rims, line, moved, middle[moved + 1] != target)
                _set_bit(rims_across, moved, line - 1, up[moved] != target)
                _set_bit(rims_across, moved, line, down[moved] != target)


@njit(cache=True, nogil=True)
def _count(labels, label):  # type: ignore[no-untyped-def]
    """How many of ten labels are `label`."""
    count = 0
    for k in range(10):
        count += int(labels[k] == label)
    return count


@njit(cache=True, nogil=True)
def _suits(histogram, area_of, color, own, target, factor, by_area):  # type: ignore[no-untyped-def]
    """Whether a pixel's colour is more frequent in `target` than in its own superpixel."""
    area_own, area_target = area_of[own], area_of[target]
    stay = histogram[own, color] * area_target
    go = histogram[target, color] * area_own
    if by_area:
        stay *= area_target
        go *= area_own
    return go > stay * factor


@njit(cache=True, nogil=True)
def _recount(histogram, area_of, color, source, target):  # type: ignore[no-untyped-def]
    """Counts a pixel in `target` instead of `source`."""
    histogram[source, color] -= np.float32(1)
    histogram[target, color] += np.float32(1)
    area_of[source] -= np.float32(1)
    area_of[target] += np.float32(1)


@njit(cache=True, nogil=True)
def _follow_inside(labels, transposed, colors, histogram, area_of):  # type: ignore[no-untyped-def]
    """Pixels on the image's border take the label of the next pixel inside."""
    height, width = labels.shape
    for x in range(width):
        _take(labels, transposed, colors, histogram, area_of, 0, x, labels[1, x])
        _take(labels, transposed, colors, histogram, area_of, height - 1, x, labels[height - 2, x])
    for y in range(height):
        _take(labels, transposed, colors, histogram, area_of, y, 0, labels[y, 1])
        _take(labels, transposed, colors, histogram, area_of, y, width - 1, labels[y, width - 2])


@njit(cache=True, nogil=True)
def _take(labels, transposed, colors, histogram, area_of, y, x, label):  # type: ignore[no-untyped-def]
    """Gives a pixel another label."""
    if labels[y, x] != label:
        _recount(histogram, area_of, colors[y, x], labels[y, x], label)
        labels[y, x] = label
        transposed[x, y] = label


@njit(cache=True, nogil=True)
def _rims(labels, num_lines):  # type: ignore[no-untyped-def]
    """See Lines; `labels` may have a line more."""
    length = labels.shape[1]
    rims = np.zeros((num_lines, (length + 63) // 64), np.uint64)
    for line in range(num_lines):
        for i in range(length - 1):
            rims[line, i // 64] |= np.uint64(labels[line, i] != labels[line, i + 1]) << np.uint64(i % 64)
    return rims


@njit(cache=True, nogil=True)
def _set_bit(words, line, position, value):  # type: ignore[no-untyped-def]
    """Sets or clears bit `position` of a line of words."""
    k, bit = position // 64, np.uint64(position % 64)
    words[line, k] = (words[line, k] & ~(_ONE << bit)) | (np.uint64(value) << bit)
