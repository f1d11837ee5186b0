"""Points in images."""

from dataclasses import replace

import numpy as np

from core.datasets.frame import CameraView
from core.datasets.projection import normalize_pixels, pixel_cells, project

WIDTH, HEIGHT, FOCAL = 101, 51, 40.0
CENTRE = (50.0, 25.0)


def camera(forward: str = "x", name: str = "a") -> CameraView:
    """Looks along the LiDAR's x (its y to the left) or against it, from the LiDAR's place."""
    sign = 1.0 if forward == "x" else -1.0
    axes = np.array([[0, -sign, 0], [0, 0, -1], [sign, 0, 0]])  # right, down, ahead
    intrinsic = np.array([[FOCAL, 0, CENTRE[0]], [0, FOCAL, CENTRE[1]], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = intrinsic @ axes
    return CameraView(name, name, "", WIDTH, HEIGHT, matrix)


def test_point_on_the_optical_axis_falls_on_the_principal_point() -> None:
    projection = project(np.array([[7.0, 0, 0], [-7.0, 0, 0]]), [camera(), camera("-x")])
    assert projection.camera.tolist() == [0, 1] and projection.camera.dtype == np.int8
    np.testing.assert_array_equal(projection.pixel, [CENTRE, CENTRE])


def test_the_later_camera_counts() -> None:
    """Both see the first point; the second falls on pixel 1 of 101, and below 0 in a camera shifted by 2 pixels."""
    shifted = replace(camera(), lidar_to_image=np.array([[1.0, 0, -2, 0], *np.eye(4)[1:]]) @ camera().lidar_to_image)
    points = np.array([[40.0, 0, 0], [40.0, 49, 0]])
    projection = project(points, [camera(), shifted])
    assert projection.camera.tolist() == [1, 0]
    np.testing.assert_allclose(projection.pixel, [[48, 25], [1, 25]])


def test_borders_are_exact() -> None:
    """In view: depth > 1, 0 < u < W - 1, 0 < v < H - 1; at depth 40, a metre is a pixel."""
    inside = [[40, 49.5, 0], [40, -49.5, 0], [40, 0, 24.5], [40, 0, -24.5], [1.0001, 0, 0]]
    outside = [[40, 50, 0], [40, -50, 0], [40, 0, 25], [40, 0, -25], [1, 0, 0], [0, 0, 0], [-40, 0, 0]]
    projection = project(np.array(inside + outside, np.float64), [camera()])
    assert projection.seen.tolist() == [True] * len(inside) + [False] * len(outside)
    assert (projection.pixel[len(inside) :] == 0).all()


def test_normalized_pixels() -> None:
    pixel = np.array([[0.0, 0], [WIDTH - 1, HEIGHT - 1], CENTRE, [3, 3]])
    normalized = normalize_pixels(pixel, np.array([0, 0, 0, -1]), [camera()])
    np.testing.assert_array_equal(normalized, [[-1, -1], [1, 1], [0, 0], [0, 0]])


def test_pixel_cells() -> None:
    """Nearest below on the (W - 1, H - 1) scale."""
    cells = pixel_cells(np.array([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.0], [0.999, -0.5]]), (5, 11))
    assert cells.tolist() == [0, 4 * 11 + 10, 2 * 11 + 5, 1 * 11 + 9]
