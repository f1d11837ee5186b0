"""Repeatable noise of a place: the same number for the same cell, whoever looks and whenever."""

import numpy as np

from core.running.compiled import njit


@njit(cache=True, nogil=True)
def hash3(i, j, k):
    """A number in [0, 1] from three integers."""
    h = i * 374761393 + j * 668265263 + k * 1440662683
    h = (h ^ (h >> 13)) * 1274126177
    h = (h ^ (h >> 16)) * 2246822519
    return ((h ^ (h >> 15)) & 0xFFFF) / 65535.0


@njit(cache=True, nogil=True)
def smooth_noise(x, y, k):
    """A smooth number in [0, 1] with bumps of about unit size; k picks the layer."""
    i, j = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
    low = hash3(i, j, k) * (1.0 - fx) + hash3(i + 1, j, k) * fx
    high = hash3(i, j + 1, k) * (1.0 - fx) + hash3(i + 1, j + 1, k) * fx
    return low * (1.0 - fy) + high * fy
