"""From the range images of one turn of the TOP LiDAR to points, and back to the cells that these come from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets.point_checks import check_points
from core.datasets.waymo.components import LIDAR, POSE, ParquetFiles, again
from core.datasets.waymo.frame import Turn
from core.datasets.waymo.range_image import beam_inclinations, points_of_cells
from core.errors import UserError


class Echoes(NamedTuple):
    """Which cells of a frame's two range images hold its points.

    Attributes:
        cells: int64 [n] of each return, positions row * W + column, ascending.
        shape: (H, W).
    """

    cells: tuple[NDArray[np.int64], NDArray[np.int64]]
    shape: tuple[int, int]

    @property
    def num_points(self) -> int:
        """Points of both returns."""
        return sum(map(len, self.cells))

    def values(self, images: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """[N, C]: what images [H, W, C], one per return, hold for the points, in their order."""
        flat = [image.reshape(-1, image.shape[2])[cells] for image, cells in zip(images, self.cells, strict=True)]
        return np.concatenate(flat)


def load_turn(files: ParquetFiles, turn: Turn, drop: bool = False) -> tuple[NDArray[np.float32], Echoes]:
    """Reads a turn of the TOP LiDAR.

    Args:
        drop: points that are not numbers become not a number throughout, instead of an error.
    Returns float32 [N, 5], x, y, z (m, vehicle frame at the turn's time), tanh(intensity), elongation; first the points
    of return 1, row by row of the range image, then those of return 2. And the cells that they come from.
    Raises UserError: a file is missing or damaged, or its images do not fit each other.
    """
    images = files.image(turn.range_path, LIDAR, turn.range_row)
    echoes = find_echoes(turn.range_path, images)
    (pose,) = files.image(turn.pose_path, POSE, turn.pose_row, returns=(1,))
    height, width = echoes.shape
    inclination = beam_inclinations(turn.inclination, *turn.inclination_limits, height)
    if pose.shape != (height, width, 6) or len(inclination) != height:
        raise UserError(
            f"{turn.pose_path}: pose image {list(pose.shape)} and {len(inclination)} beams for a range image of "
            f"{height} x {width}; {again(POSE)}"
        )
    values = echoes.values(images)
    points = np.empty((echoes.num_points, 5), np.float32)
    begin = 0
    for image, cells in zip(images, echoes.cells, strict=True):
        xyz = points_of_cells(image, cells, pose, inclination, turn.extrinsic, turn.vehicle_to_world)
        points[begin : begin + len(cells), :3] = xyz
        begin += len(cells)
    points[:, 3], points[:, 4] = np.tanh(values[:, 1]), values[:, 2]
    if len(points) == 0:
        raise UserError(f"{turn.range_path}: range images with no echoes; {again(LIDAR)}")
    check_points(points, turn.range_path, again(LIDAR), drop)
    return points, echoes


def find_echoes(path: str, images: Sequence[NDArray[np.float32]]) -> Echoes:
    """The cells of a frame's range images [H, W, 4] that hold points; UserError naming `path` where they do not fit."""
    shapes = {image.shape for image in images}
    height, width, channels = images[0].shape
    if len(shapes) != 1 or channels < 3:
        found = " and ".join(map(str, sorted(shapes)))
        raise UserError(f"{path}: range images of shape {found}, expected (64, 2650, 4) twice; {again(LIDAR)}")
    first, second = (np.flatnonzero(image[..., 0] > 0) for image in images)
    return Echoes((first, second), (height, width))
