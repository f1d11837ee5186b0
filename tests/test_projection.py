"""Points in images: by hand, against OpenCV, and at the rim of what lenses see."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from core.datasets.frame import CameraView
from core.datasets.lens import Lens
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


INTRINSIC = np.array([[410.0, 0, 322], [0, 405.0, 241], [0, 0, 1]])
ROTATION, _ = cv2.Rodrigues(np.array([0.3, -0.2, 1.1]))
TO_CAMERA = np.eye(4)
TO_CAMERA[:3, :3], TO_CAMERA[:3, 3] = ROTATION, (0.4, -0.1, 0.2)
LENSES = [
    ("plumb_bob", (-0.28, 0.07, 0.0011, -0.0007)),
    ("plumb_bob", (-0.28, 0.07, 0.0011, -0.0007, -0.006)),
    ("plumb_bob", (0.1, -0.05, 0.0011, -0.0007, 0.01, 0.35, -0.02, 0.03)),
    ("fisheye", (0.04, -0.01, 0.005, -0.002)),
]


def view(lens, size=(640, 480)):
    return CameraView("camera", "token", "", *size, np.eye(4), lens=lens)


def points_before(lens, count=4000, angle=None):
    """Points before the camera, in the LiDAR frame, within the lens's angle or up to another."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(0, min(lens.widest_angle, 1.5) if angle is None else angle, count)
    phi, far = rng.uniform(0, 2 * math.pi, count), rng.uniform(2, 60, count)
    inside = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], 1) * far[:, None]
    return ((inside - TO_CAMERA[:3, 3]) @ ROTATION).astype(np.float32), theta


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_as_opencv_projects(model, coefficients):
    lens = Lens(model, coefficients, INTRINSIC, TO_CAMERA)
    points, _ = points_before(lens)
    turn, shift = cv2.Rodrigues(ROTATION)[0], TO_CAMERA[:3, 3]
    given = points.astype(np.float64)[:, None]
    project_points = cv2.fisheye.projectPoints if model == "fisheye" else cv2.projectPoints
    arguments = (turn, shift, INTRINSIC, np.array(coefficients))
    expected = project_points(given, *arguments)[0][:, 0]
    found, depth = lens.project(points)
    np.testing.assert_allclose(found, expected, atol=1e-6, rtol=1e-9)

    seen = project(points, [view(lens)])
    inside = ((expected > 0) & (expected < (639, 479))).all(1) & (depth > 1)
    np.testing.assert_array_equal(seen.seen, inside)
    np.testing.assert_allclose(seen.pixel[inside], expected[inside], atol=1e-6)
    assert 0.05 < inside.mean() < 1


def test_points_beyond_the_widest_angle_are_not_seen():
    """This barrel distortion folds back at r = 1 / sqrt(-3 k1): OpenCV draws points beyond it into the image again."""
    lens = Lens("plumb_bob", (-0.5, 0.0, 0.0, 0.0), INTRINSIC, TO_CAMERA)
    assert lens.widest_angle == pytest.approx(math.atan(1 / math.sqrt(1.5)), abs=1e-3)
    points, theta = points_before(lens, angle=1.2)
    beyond = theta > lens.widest_angle + 1e-3
    folded = cv2.projectPoints(
        points.astype(np.float64)[:, None], cv2.Rodrigues(ROTATION)[0], TO_CAMERA[:3, 3], INTRINSIC, lens.coefficients
    )[0][:, 0]
    assert ((folded[beyond] > 0) & (folded[beyond] < (639, 479))).all(1).any()
    found = project(points, [view(lens)])
    assert not found.seen[beyond].any() and found.seen[~beyond].any()


def test_a_fisheye_sees_what_stands_beside_it():
    """At 80 degrees, 3 m away, the depth along the axis is half a metre: seen all the same, behind it not."""
    lens = Lens("fisheye", (0.0, 0.0, 0.0, 0.0), np.array([[150.0, 0, 320], [0, 150.0, 240], [0, 0, 1]]), np.eye(4))
    angle = np.radians([80.0, 179.9])
    points = np.stack([3 * np.sin(angle), 0 * angle, 3 * np.cos(angle)], 1)
    np.testing.assert_array_equal(project(points, [view(lens)]).seen, [True, False])
    np.testing.assert_allclose(project(points, [view(lens)]).pixel[0], [320 + 150 * angle[0], 240])
