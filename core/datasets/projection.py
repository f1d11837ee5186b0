"""LiDAR points in camera images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView
from core.datasets.lens import Lens
from core.running.compiled import njit

MIN_DEPTH = 1.0  # m; nearer points count as unseen, where a data set does not say otherwise


@dataclass(frozen=True, eq=False)
class Projection:
    """Where points fall in the images of a frame.

    Attributes:
        camera: int8 [N], the camera that sees the point, -1 for none; where several do, the last of them.
        pixel: float64 [N, 2], (u, v) in pixels of that camera's full-size image; 0 where no camera sees the point.
    """

    camera: NDArray[np.int8]
    pixel: NDArray[np.float64]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """bool [N], whether any camera sees the point."""
        return self.camera >= 0


def project(points: NDArray[np.floating], cameras: Sequence[CameraView], min_depth: float = MIN_DEPTH) -> Projection:
    """Projects points into all cameras of their frame.

    A camera sees a point with depth > min_depth, 0 < u < width - 1 and 0 < v < height - 1; one that distorts, up to the
    widest angle of its lens.

    Args:
        points: [N, >= 3], x, y, z (m) in the key frame's LiDAR frame.
        cameras: K views of the frame.
        min_depth: exclusive, m.
    """
    camera = np.full(len(points), -1, np.int8)
    pixel = np.zeros((len(points), 2))
    if len(points) and len(cameras):
        sizes = _sizes(cameras)
        matrices = np.stack([view.lidar_to_image[:3] for view in cameras])
        for k, view in enumerate(cameras):  # the later camera overwrites the earlier one
            if view.lens is None:
                _project(points, matrices[k], sizes[k], k, min_depth, camera, pixel)
            else:
                _project_distorted(points, view.lens, sizes[k], k, min_depth, camera, pixel)
    return Projection(camera, pixel)


def _project_distorted(
    points: NDArray[np.floating],
    lens: Lens,
    size: NDArray[np.int64],
    k: int,
    min_depth: float,
    camera: NDArray[np.int8],
    pixel: NDArray[np.float64],
) -> None:
    """Fills `camera` and `pixel` for camera `k`; size: W, H."""
    found, depth = lens.project(points)
    inside = (found > 0) & (found < size - 1)
    rows = np.flatnonzero((depth > min_depth) & inside.all(1))
    camera[rows], pixel[rows] = k, found[rows]


@njit(cache=True)
def _project(points, matrix, size, k, min_depth, camera, pixel):  # type: ignore[no-untyped-def]
    """Fills camera int8 [N] and pixel [N, 2] for camera `k`; matrix [3, 4], size int64 [2] (W, H)."""
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3) = matrix[0], matrix[1], matrix[2]
    last_column, last_row = np.float64(size[0] - 1), np.float64(size[1] - 1)
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        depth = c0 * x + c1 * y + c2 * z + c3
        if depth > min_depth:
            u = (a0 * x + a1 * y + a2 * z + a3) / depth
            v = (b0 * x + b1 * y + b2 * z + b3) / depth
            if 0 < u < last_column and 0 < v < last_row:
                camera[i] = k
                pixel[i, 0] = u
                pixel[i, 1] = v


def normalize_pixels(
    pixel: NDArray[np.float64], camera: NDArray[np.integer], cameras: Sequence[CameraView]
) -> NDArray[np.float64]:
    """Scales pixels to [-1, 1]: -1 is the centre of the first pixel, +1 that of the last.

    Args:
        pixel: [N, 2], (u, v) in pixels of the full-size image of camera `camera`.
        camera: [N], -1 where no camera sees the point.
        cameras: the views of the frame.
    Returns float64 [N, 2]; 0 where no camera sees the point.
    """
    normalized = np.zeros((len(pixel), 2))
    if len(cameras):
        _normalize(pixel, camera, _sizes(cameras), normalized)
    return normalized


@njit(cache=True)
def _normalize(pixel, camera, sizes, normalized):  # type: ignore[no-untyped-def]
    for i in range(len(camera)):
        if camera[i] >= 0:
            for axis in range(2):
                normalized[i, axis] = pixel[i, axis] / (sizes[camera[i], axis] - 1) * 2 - 1


def pixel_cells(normalized: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int64]:
    """The nearest-below pixel of a resized image at normalised coordinates: floor((c + 1) / 2 * (W - 1)), rows alike.

    Args:
        normalized: [N, 2], (u, v) in [-1, 1].
        size: (height, width) of the resized image.
    Returns int64 [N], position row * width + column in the flattened image.
    """
    height, width = size
    column = np.floor((normalized[:, 0] + 1) / 2 * (width - 1)).astype(np.int64)
    row = np.floor((normalized[:, 1] + 1) / 2 * (height - 1)).astype(np.int64)
    return row * width + column


def pixel_colors(images: NDArray[np.uint8], camera: NDArray[np.int8], pixel: NDArray[np.float64]) -> NDArray[np.uint8]:
    """uint8 [V, 3]: colour of each point's nearest-below pixel; 0 where no camera sees it."""
    num_cameras, _, height, width = images.shape
    colors = images.reshape(num_cameras, 3, -1)[camera, :, pixel_cells(pixel, (height, width))]
    return np.where(camera[:, None] >= 0, colors, np.uint8(0))


def _sizes(cameras: Sequence[CameraView]) -> NDArray[np.int64]:
    """int64 [K, 2], width and height."""
    return np.array([(view.width, view.height) for view in cameras], np.int64).reshape(-1, 2)
