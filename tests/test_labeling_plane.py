"""RANSAC planes: exact cases, the same planes as Open3D finds, repeatability."""

import numpy as np
import pytest

from core.errors import UserError
from core.labeling.ground.plane import Cells, fit_planes, fit_planes_open3d, plane_fitter


def fit_by(fitter, points, distance, sample_size, iterations, seed):
    """The plane of all points of a single cell."""
    cells, everything = Cells(points, np.array([0, len(points)])), np.ones(len(points), bool)
    return fitter(cells, everything, np.array([True]), np.array([seed]), distance, sample_size, iterations)[0]


def fit_plane(*arguments):
    return fit_by(fit_planes, *arguments)


def fit_plane_open3d(*arguments):
    return fit_by(fit_planes_open3d, *arguments)


def scattered_plane(normal, offset, inliers, outliers, seed, noise=0.03):
    """Points on n·p + d = 0 in a 10 m box (noise in m, along the normal), then points anywhere in it."""
    rng = np.random.default_rng(seed)
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    points = rng.uniform(-5, 5, (inliers, 3))
    points -= ((points @ normal + offset) + rng.normal(0, noise, inliers))[:, None] * normal
    return np.concatenate([points, rng.uniform(-5, 5, (outliers, 3))]), np.append(normal, offset)


def inliers_of(points, plane):
    return np.abs(points @ plane[:3] + plane[3]) < 0.2


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("normal", [(0, 0, 1), (1, 0, 0), (0, 1, 0), (1, 2, 3), (0.1, -0.05, 1)])
def test_same_plane_as_open3d(normal):
    points, truth = scattered_plane(normal, 1.5, 300, 100, seed=4)
    ours, theirs = fit_plane(points, 0.2, 10, 1000, 1), fit_plane_open3d(points, 0.2, 10, 1000, 1)
    assert abs(ours[:3] @ theirs[:3]) > 0.9999
    assert iou(inliers_of(points, ours), inliers_of(points, theirs)) > 0.97
    assert iou(inliers_of(points, ours), inliers_of(points, truth)) > 0.97


@pytest.mark.parametrize("fit", [fit_plane, fit_plane_open3d])
def test_no_plane(fit):
    assert not fit(np.random.default_rng(0).random((9, 3)), 0.2, 10, 100, 0).any(), "fewer points than a sample"
    assert not fit(np.ones((50, 3)), 0.2, 10, 100, 0).any(), "a single place"


@pytest.mark.parametrize("fitter", [fit_planes, fit_planes_open3d])
def test_only_candidates_of_chosen_cells_count(fitter):
    first, _ = scattered_plane((0, 0, 1), 1.0, 200, 0, seed=3)
    second, _ = scattered_plane((1, 0, 0), 1.0, 200, 0, seed=4)
    points, starts = np.concatenate([first, second, first, first[:50]]), np.array([0, 400, 600, 650])
    candidate = np.ones(650, bool)
    candidate[:200] = False  # of the first cell the plane x = -1 is left
    candidate[605:] = False  # too few are left
    planes = fitter(Cells(points, starts), candidate, np.array([True, False, True]), np.arange(3), 0.2, 10, 1000)
    np.testing.assert_allclose(np.abs(planes[0]), [1, 0, 0, 1], atol=0.05)
    assert not planes[1:].any()


def test_unknown_fitter_is_named():
    with pytest.raises(UserError, match="'pcl'.*numba, open3d"):
        plane_fitter("pcl")
