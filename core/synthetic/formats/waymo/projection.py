"""Which camera pixels show the points of a turn, as the data set's files say it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.synthetic.formats.waymo.turn import Echo
from core.synthetic.scene import Scene
from core.synthetic.sensors import Camera

_NEAREST = 1.0  # metres of depth


def camera_projection(scene: Scene, cameras: Sequence[Camera], echo: Echo, time: float) -> NDArray[np.int32]:
    """camera1, x1, y1, camera2, x2, y2 of each cell, int32 [H, W, 6]: camera numbers from 1 (0: none), pixels.

    Each camera looks from where the vehicle is at its own time. A point in more than two images keeps the first two.

    Args:
        time: of the turn, seconds after the scene's first key frame.
    """
    image = np.zeros((*echo.distance.shape, 6), np.int32)
    seen_by = np.zeros(echo.distance.shape, np.int32)
    for number, camera in enumerate(cameras, 1):
        pose = scene.vehicle_pose(time + camera.delay / 1e6) @ camera.to_vehicle
        in_camera = (echo.points - pose[:3, 3]) @ pose[:3, :3]
        depth = np.maximum(in_camera[..., 2], _NEAREST)
        # the pixel that holds the point: pixel 0 reaches from -0.5 to 0.5
        u = np.floor(camera.intrinsic[0, 0] * in_camera[..., 0] / depth + camera.intrinsic[0, 2] + 0.5)
        v = np.floor(camera.intrinsic[1, 1] * in_camera[..., 1] / depth + camera.intrinsic[1, 2] + 0.5)
        seen = (echo.distance > 0) & (in_camera[..., 2] > _NEAREST) & (seen_by < 2)
        seen &= (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        row, column = np.nonzero(seen)
        place = 3 * seen_by[row, column]
        for k, value in enumerate((np.full(len(row), number), u[seen], v[seen])):
            image[row, column, place + k] = value
        seen_by += seen
    return image
