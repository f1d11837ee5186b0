"""Histogram equalisation of a colour image's brightness: bit for bit what OpenCV computes, without it."""

import numpy as np
from numpy.typing import NDArray

from core.running.compiled import njit

_LUMA_BITS = 14  # after the point of the coefficients between RGB and YUV
_HSV_BITS = 12  # after the point of the reciprocals in hue and saturation
_HUES = 180  # steps of the colour circle: two degrees each


def equalize(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalises the brightness (Y of YUV) of an RGB image uint8 [H, W, 3]; returns it in HSV, hue 0..179."""
    pixels = np.ascontiguousarray(image).reshape(-1)
    luma = np.empty(pixels.size // 3, np.uint8)
    _luma(pixels, luma)
    hsv = np.empty_like(pixels)
    _to_hsv(pixels, luma, _spread(np.bincount(luma, minlength=256)), _SATURATION, _HUE, hsv)
    return hsv.reshape(image.shape)


def _spread(histogram: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The brightness uint8 [256] that each brightness becomes: the share of pixels between it and the darkest one."""
    darkest = int(np.flatnonzero(histogram)[0])
    rest = histogram.sum() - histogram[darkest]
    if rest == 0:
        return np.full(256, darkest, np.uint8)
    scale = np.float32(255) / np.float32(rest)
    brighter = np.cumsum(histogram) - histogram[darkest]
    return np.rint(np.clip(brighter.astype(np.float32) * scale, 0, 255)).astype(np.uint8)


def _reciprocals(scale: float) -> NDArray[np.int32]:
    """scale / i in fixed point, int32 [256]; 0 for i = 0."""
    table = np.zeros(256, np.int32)
    table[1:] = np.rint(scale * (1 << _HSV_BITS) / np.arange(1, 256))
    return table


_SATURATION = _reciprocals(255)
_HUE = _reciprocals(_HUES / 6)


@njit(cache=True, nogil=True)
def _luma(pixels, luma):  # type: ignore[no-untyped-def]
    """Y of YUV from RGB uint8 [3 n]."""
    for i in range(np.uint32(luma.size)):
        k = np.uint32(3) * i
        luma[i] = _descale(_times(4899, pixels[k]) + _times(9617, pixels[k + 1]) + _times(1868, pixels[k + 2]))


@njit(cache=True, nogil=True)
def _to_hsv(pixels, luma, spread, saturation, hue, hsv):  # type: ignore[no-untyped-def]
    """RGB uint8 [3 n] with Y replaced by spread[Y] -> HSV uint8 [3 n], through YUV and RGB in 8 bits as OpenCV does."""
    half, bits, zero = np.int32(1 << (_HSV_BITS - 1)), np.int32(_HSV_BITS), np.int32(128)
    for i in range(np.uint32(luma.size)):
        k = np.uint32(3) * i
        y = np.int32(luma[i])
        u = _clip(_descale(_times(8061, np.int32(pixels[k + 2]) - y)) + zero) - zero
        v = _clip(_descale(_times(14369, np.int32(pixels[k]) - y)) + zero) - zero
        y = np.int32(spread[luma[i]])
        red = _clip(y + _descale(_times(18678, v)))
        green = _clip(y + _descale(_times(-9519, v) + _times(-6472, u)))
        blue = _clip(y + _descale(_times(33292, u)))
        value = max(red, max(green, blue))
        chroma = value - min(red, min(green, blue))
        if value == red:
            sixth = green - blue
        elif value == green:
            sixth = blue - red + _times(2, chroma)
        else:
            sixth = red - green + _times(4, chroma)
        angle = (sixth * hue[chroma] + half) >> bits
        hsv[k] = angle + np.int32(_HUES) if angle < 0 else angle
        hsv[k + 1] = (chroma * saturation[value] + half) >> bits
        hsv[k + 2] = value


@njit(cache=True, nogil=True)
def _times(coefficient, value):  # type: ignore[no-untyped-def]
    return np.int32(coefficient) * np.int32(value)


@njit(cache=True, nogil=True)
def _descale(product):  # type: ignore[no-untyped-def]
    return (product + np.int32(1 << (_LUMA_BITS - 1))) >> np.int32(_LUMA_BITS)


@njit(cache=True, nogil=True)
def _clip(value):  # type: ignore[no-untyped-def]
    return min(max(value, np.int32(0)), np.int32(255))
