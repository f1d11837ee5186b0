"""LiDAR points in camera images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView

MIN_DEPTH = 1.0  # m; nearer points count as unseen


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


def project(points: NDArray[np.floating], cameras: Sequence[CameraView]) -> Projection:
    """Projects points into all cameras of their frame.

    A camera sees a point with depth > 1 m, 0 < u < width - 1 and 0 < v < height - 1.

    Args:
        points: [N, >= 3], x, y, z (m) in the key frame's LiDAR frame.
        cameras: K views of the frame.
    """
    num_points, num_cameras = len(points), len(cameras)
    camera = np.full(num_points, -1, np.int8)
    pixel = np.zeros((num_points, 2))
    if num_points == 0 or num_cameras == 0:
        return Projection(camera, pixel)

    # all cameras at once: [3 K, 4] @ [4, N]
    homogeneous = np.ones((4, num_points))
    homogeneous[:3] = points[:, :3].T
    matrices = np.concatenate([view.lidar_to_image[:3] for view in cameras])
    projected = (matrices @ homogeneous).reshape(num_cameras, 3, num_points)

    # the later camera overwrites the earlier one
    for k, view in enumerate(cameras):
        ahead = np.flatnonzero(projected[k, 2] > MIN_DEPTH)
        depth = projected[k, 2, ahead]
        u, v = projected[k, 0, ahead] / depth, projected[k, 1, ahead] / depth
        inside = np.flatnonzero((u > 0) & (u < view.width - 1) & (v > 0) & (v < view.height - 1))
        seen = ahead[inside]
        camera[seen] = k
        pixel[seen, 0] = u[inside]
        pixel[seen, 1] = v[inside]
    return Projection(camera, pixel)


def normalize_pixels(
    pixel: NDArray[np.float64], camera: NDArray[np.integer], cameras: Sequence[CameraView]
) -> NDArray[np.float64]:
    """Scales pixels to [-1, 1]: -1 is the centre of the first pixel, +1 that of the last.

    Args:
        pixel: [N, 2], (u, v) in pixels of the full-size image of camera `camera`.
        camera: [N], -1 where no camera sees the point.
        cameras: the views of the frame.

    Returns:
        float64 [N, 2]; 0 where no camera sees the point.
    """
    normalized = np.zeros((len(pixel), 2))
    seen = camera >= 0
    normalized[seen] = pixel[seen] / (_sizes(cameras)[camera[seen]] - 1) * 2 - 1
    return normalized


def pixel_cells(normalized: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int64]:
    """The nearest-below pixel of a resized image at normalised coordinates: floor((c + 1) / 2 * (W - 1)), rows alike.

    Args:
        normalized: [N, 2], (u, v) in [-1, 1].
        size: (height, width) of the resized image.

    Returns:
        int64 [N], position row * width + column in the flattened image.
    """
    height, width = size
    column = np.floor((normalized[:, 0] + 1) / 2 * (width - 1)).astype(np.int64)
    row = np.floor((normalized[:, 1] + 1) / 2 * (height - 1)).astype(np.int64)
    return row * width + column


def _sizes(cameras: Sequence[CameraView]) -> NDArray[np.int64]:
    """int64 [K, 2], width and height."""
    return np.array([(view.width, view.height) for view in cameras], np.int64).reshape(-1, 2)
