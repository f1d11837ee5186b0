"""Bilinear resizing with antialiasing: bit for bit what PIL computes, in less than half its time."""

from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

PRECISION = 22  # bits after the point of the fixed-point weights, as in PIL


def resize_bilinear(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes columns, then rows, rounding to uint8 after each, as PIL's `Image.resize` with BILINEAR does.

    Args:
        image: uint8 [H, W, 3].
        size: (height, width) of the result.

    Returns:
        uint8 [height, width, 3]; the image itself where the size is unchanged.
    """
    height, width = size
    image = np.ascontiguousarray(image)
    if image.shape[1] != width:
        first, weights = _taps(image.shape[1], width)
        out = np.empty((image.shape[0], width, 3), np.uint8)
        _resize_columns(image.reshape(len(image), -1), first, weights, out.reshape(len(out), -1))
        image = out
    if image.shape[0] != height:
        first, weights = _taps(image.shape[0], height)
        out = np.empty((height, width, 3), np.uint8)
        _resize_rows(image.reshape(len(image), -1), first, weights, out.reshape(height, -1))
        image = out
    return image


@lru_cache(maxsize=64)
def _taps(size_in: int, size_out: int) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
    """First input position uint32 [size_out] and fixed-point weights uint64 [size_out, taps] of each output."""
    scale = size_in / size_out
    support = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), size_in)
    position = first[:, None] + np.arange((last - first).max())
    weights = np.maximum(0.0, 1.0 - np.abs((position - centre[:, None] + 0.5) * (1.0 / support)))
    weights[position >= last[:, None]] = 0.0
    total = np.cumsum(weights, axis=1)[:, -1:]  # in order, as PIL sums
    return first.astype(np.uint32), (weights * (1.0 / total) * (1 << PRECISION) + 0.5).astype(np.uint64)


@numba.njit(cache=True)
def _resize_columns(image, first, weights, out):  # type: ignore[no-untyped-def]
    """image uint8 [H, 3 W] -> out uint8 [H, 3 W']; two rows at a time, two 32-bit sums in each 64-bit number."""
    height, width, taps = image.shape[0], image.shape[1] // 3, weights.shape[1]
    pair0 = np.zeros(width + taps, np.uint64)
    pair1 = np.zeros(width + taps, np.uint64)
    pair2 = np.zeros(width + taps, np.uint64)
    upper, low, high = np.uint64(32), np.uint64(PRECISION), np.uint64(32 + PRECISION)
    half = np.uint64((1 << (PRECISION - 1)) | (1 << (31 + PRECISION)))
    for y in range(0, height, 2):
        y_next = min(y + 1, height - 1)
        row, row_next, out_row, out_next = image[y], image[y_next], out[y], out[y_next]
        for x in range(np.uint32(width)):
            i = np.uint32(3) * x
            pair0[x] = np.uint64(row[i]) | (np.uint64(row[i + 1]) << upper)
            pair1[x] = np.uint64(row[i + 2]) | (np.uint64(row_next[i]) << upper)
            pair2[x] = np.uint64(row_next[i + 1]) | (np.uint64(row_next[i + 2]) << upper)
        for x in range(np.uint32(first.shape[0])):
            sum0, sum1, sum2 = half, half, half
            start = first[x]
            for t in range(np.uint32(taps)):
                weight = weights[x, t]
                sum0 += pair0[start + t] * weight
                sum1 += pair1[start + t] * weight
                sum2 += pair2[start + t] * weight
            i = np.uint32(3) * x
            out_row[i], out_row[i + 1] = np.uint8(sum0 >> low), np.uint8(sum0 >> high)
            out_row[i + 2], out_next[i] = np.uint8(sum1 >> low), np.uint8(sum1 >> high)
            out_next[i + 1], out_next[i + 2] = np.uint8(sum2 >> low), np.uint8(sum2 >> high)


@numba.njit(cache=True)
def _resize_rows(image, first, weights, out):  # type: ignore[no-untyped-def]
    """image uint8 [H, M] -> out uint8 [H', M]."""
    total = np.empty(image.shape[1], np.uint32)
    for y in range(out.shape[0]):
        total[:] = 1 << (PRECISION - 1)
        for t in range(weights.shape[1]):
            weight = np.uint32(weights[y, t])
            if weight > 0:
                row = image[first[y] + np.uint32(t)]
                for x in range(total.shape[0]):
                    total[x] += np.uint32(row[x]) * weight
        for x in range(total.shape[0]):
            out[y, x] = total[x] >> np.uint32(PRECISION)
