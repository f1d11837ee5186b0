"""Training samples mixed of two frames, camera by camera.

As PolarMix (Xiao et al., NeurIPS 2022) exchanges sectors of two scans, here the points that a camera sees are exchanged
together with its image, so that both branches still see the same thing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView
from core.datasets.label_sources import StoredLabels
from core.datasets.projection import Projection

T = TypeVar("T", bound=np.generic)


class LabelledPoints(NamedTuple):
    """The points of a frame float32 [N, C], where cameras see them, their stored labels, their dense ones uint8 [N]."""

    points: NDArray[np.float32]
    projection: Projection
    stored: StoredLabels
    truth: NDArray[np.uint8] | None


def draw_cameras(num_cameras: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """bool [K]: the cameras that come from the other frame, at least one, and not all."""
    taken = rng.random(num_cameras) < 0.5
    if taken.all() or not taken.any():
        taken[rng.integers(num_cameras)] ^= True
    return taken


def same_cameras(own: Sequence[CameraView], other: Sequence[CameraView]) -> bool:
    """Whether two frames have as many cameras, at least two, and of the same sizes."""
    sizes = [[(view.width, view.height) for view in views] for views in (own, other)]
    return len(own) > 1 and sizes[0] == sizes[1]


def mix_points(own: LabelledPoints, other: LabelledPoints, taken: NDArray[np.bool_]) -> LabelledPoints:
    """The points that cameras `taken` see are the other frame's; all else stays.

    Args:
        taken: bool [K].
    """
    of_camera = np.append(taken, False)  # the last: camera -1
    kept, added = ~of_camera[own.projection.camera], of_camera[other.projection.camera]

    def join(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([a[kept], b[added]])

    names = ("sparse", "propagated", "candidates", "pseudo")
    labels = {name: join(getattr(own.stored, name), getattr(other.stored, name)) for name in names}
    camera = join(own.projection.camera, other.projection.camera)
    pixel = join(own.projection.pixel, other.projection.pixel)
    truth = None if own.truth is None or other.truth is None else join(own.truth, other.truth)
    return LabelledPoints(
        join(own.points, other.points), Projection(camera, pixel), StoredLabels(**labels, weak=None), truth
    )


def mix_images(own: NDArray[T], other: NDArray[T], taken: NDArray[np.bool_]) -> NDArray[T]:
    """Images or superpixel maps [K, ...], those of cameras `taken` from the other frame."""
    return np.where(taken.reshape(-1, *[1] * (own.ndim - 1)), other, own)
