"""Ground: planes, cells, and the rules of a cell, by hand-made points and hand-made planes."""

from dataclasses import replace

import numpy as np
import pytest

from core.errors import UserError
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.ground.ground import find_ground, ground_of_cells, normal_threshold
from core.labeling.ground.plane import Cells, fit_planes, fit_planes_open3d, plane_fitter
from core.labeling.ground.polar import polar_cells


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


PARAMETERS = WeakLabelParameters()
FLAT = np.array([0.0, 0.0, 1.0, 0.0])  # z = 0
WALL = np.array([1.0, 0.0, 0.0, -3.0])  # x = 3


def polar(radius, turns):
    """A point at `turns`·π."""
    return [radius * np.cos(turns * np.pi), radius * np.sin(turns * np.pi), 0.0]


class Planes:
    """A fitter that returns given planes for a single cell one after the other and records what it was given."""

    def __init__(self, *planes):
        self.planes, self.calls, self.seeds = list(planes), [], []

    def __call__(self, cells, candidate, chosen, seeds, distance, sample_size, iterations):
        assert (distance, sample_size, iterations, chosen.tolist()) == (0.2, 10, 1000, [True])
        self.calls.append(cells.xyz[candidate])
        self.seeds.extend(seeds.tolist())
        return self.planes.pop(0)[None]


def ground_of_cell(xyz, threshold, fitter, seed=0, **changes):
    """The ground of a single cell."""
    cells = Cells(xyz, np.array([0, len(xyz)]))
    parameters = replace(PARAMETERS, **changes)
    return ground_of_cells(cells, np.array([True]), np.array([threshold]), fitter, np.array([seed]), parameters)


def candidates(z):
    """Which of the points at the heights z are candidates; z has no value twice."""
    fitter = Planes(np.zeros(4))
    ground_of_cell(np.column_stack([np.zeros((len(z), 2)), z]), 0.75, fitter, ps_min_num=0)
    return np.isin(z, fitter.calls[0][:, 2]).tolist()


def lies_below(z):
    """Whether the plane z = 0 is accepted as ground of a cell with the heights z."""
    xyz = np.column_stack([np.zeros((len(z), 2)), z])
    return ground_of_cell(xyz, 0.75, Planes(FLAT), ps_min_num=0, ps_max_tries=1, ps_first_try_share=0.0).any()


def floor(count, height=0.0):
    rng = np.random.default_rng(count)
    return np.column_stack([rng.uniform(-1, 1, (count, 2)), np.full(count, height)])


def wall(count, low, high):
    return np.column_stack([np.full(count, 3.0), np.zeros(count), np.linspace(low, high, count)])


@pytest.mark.parametrize(
    ("radii", "rings"), [((0.1, 2.4, 2.6, 7.4, 7.6, 12.6), [0, 0, 1, 1, 2, 3]), ((20.0, 25.0, 41.0), [0, 1, 4])]
)
def test_rings_are_rounded_to_5_m_and_count_from_the_smallest_occupied_one(radii, rings):
    assert polar_cells(np.array([polar(r, 0.0) for r in radii]), (5.0, 0.1))[0].tolist() == rings


@pytest.mark.parametrize(
    ("turns", "bins"),
    [
        ((-0.99, -0.96, 0.96, 0.99, -0.94, -0.5, 0.0, 0.94), [0, 0, 0, 0, 1, 5, 10, 19]),
        ((-0.3, -0.26, -0.24, 0.0, 0.5), [0, 0, 1, 3, 8]),
    ],
)
def test_the_last_angular_bin_is_the_first_and_they_count_from_the_smallest_occupied_one(turns, bins):
    assert polar_cells(np.array([polar(10, t) for t in turns]), (5.0, 0.1))[1].tolist() == bins


def test_all_points_are_candidates_unless_heights_spread():
    assert candidates([-0.74, 0.74]) == [True, True]
    assert candidates([-0.75, 0.75]) == [True, False]
    assert candidates([0.0, 2.0, 4.0]) == [True, True, False], "the mean itself stays"


def test_threshold_is_stricter_straight_behind_the_vehicle():
    ring, angular_bin = np.divmod(np.arange(80), 20)
    threshold = normal_threshold(ring, angular_bin, PARAMETERS)
    strict = threshold == 0.95
    assert np.column_stack([ring, angular_bin])[strict].tolist() == [[0, 4], [0, 5], [1, 4], [1, 5]]
    assert set(threshold[~strict]) == {0.75}


def test_inliers_are_all_points_of_the_cell_not_just_candidates():
    xyz = np.concatenate([floor(150), [[0, 0, 0.19], [0, 0, 0.21], [0, 0, -0.19], [0, 0, 40.0]]])  # std > 0.75
    fitter = Planes(FLAT)
    inlier = ground_of_cell(xyz, 0.75, fitter, 0)
    assert len(fitter.calls[0]) == 153, "only the points up to the mean height"
    assert inlier[150:].tolist() == [True, False, True, False]


def test_refused_inliers_leave_the_candidates():
    xyz = np.concatenate([wall(130, 0.0, 1.0), floor(120)])
    fitter = Planes(WALL, FLAT)
    inlier = ground_of_cell(xyz, 0.75, fitter, 7)
    assert [len(c) for c in fitter.calls] == [250, 120] and fitter.seeds == [7, 8]
    np.testing.assert_array_equal(inlier, np.abs(xyz[:, 2]) < 0.2)


def test_three_tries_at_most():
    elsewhere = np.array([1.0, 0.0, 0.0, -50.0])  # no inliers
    xyz = np.concatenate([wall(300, 0.0, 1.0), floor(200)])
    fitter = Planes(WALL, elsewhere, elsewhere, FLAT)
    assert not ground_of_cell(xyz, 0.75, fitter, 0).any()
    assert len(fitter.calls) == 3


def test_first_plane_needs_half_of_the_candidates():
    xyz = np.concatenate([floor(101), wall(101, 1.0, 1.2)])
    assert ground_of_cell(xyz, 0.75, Planes(FLAT), 0)[:101].all(), "exactly half is enough"
    xyz = np.concatenate([floor(101), wall(102, 1.0, 1.2)])
    fitter = Planes(FLAT, FLAT)
    assert not ground_of_cell(xyz, 0.75, fitter, 0).any()
    assert len(fitter.calls) == 1, "fewer end the cell at once"


def test_normal_must_be_above_the_threshold():
    tilted = np.array([0.28, 0.0, 0.96, 0.0])
    points = floor(200) * [1, 1, 0]
    points[:, 2] = -points[:, 0] * 0.28 / 0.96
    assert ground_of_cell(points, 0.95, Planes(tilted), 0).all()
    assert not ground_of_cell(points, 0.96, Planes(tilted), 0).any(), "equal is not above"
    assert ground_of_cell(points, 0.95, Planes(-tilted), 0).all(), "the normal's direction is free"


def test_plane_with_points_below_is_refused_unless_they_are_few():
    z = np.r_[np.zeros(18), [-1.0, -1.0]]
    assert lies_below(z), "2 of 20 off the plane"
    z = np.r_[np.zeros(17), [-1.0, -1.0, -1.0]]
    assert not lies_below(z)
    assert lies_below(-z), "above is fine"
    z = np.r_[np.zeros(17), [-1.0, 0.5, 0.5]]
    assert lies_below(z), "not above on average"


def test_cells_do_not_know_of_each_other():
    parts = [
        np.concatenate([wall(130, 0.0, 1.0), floor(120)]),
        floor(90),
        floor(300, 0.5),
        wall(200, 0.0, 1.0),
        floor(150),
    ]
    starts = np.cumsum([0, *(len(part) for part in parts)])
    cells, threshold, seeds = Cells(np.concatenate(parts), starts), np.full(5, 0.75), np.arange(5)
    wanted = np.array([True, True, True, True, False])
    ground = ground_of_cells(cells, wanted, threshold, fit_planes, seeds, PARAMETERS)
    alone = [ground_of_cell(part, 0.75, fit_planes, seed) for seed, part in enumerate(parts)]
    np.testing.assert_array_equal(ground[: starts[4]], np.concatenate(alone[:4]))
    assert [part.any() for part in np.split(ground, starts[1:-1])] == [True, False, True, False, False]


def test_components_of_a_floor_with_a_wall():
    rng = np.random.default_rng(0)
    # two patches of floor in cells of their own, and a wall above the first
    near = np.column_stack([rng.uniform(9, 11, 300), rng.uniform(-1, 1, 300), rng.normal(-1.8, 0.02, 300)])
    far = np.column_stack([rng.uniform(-20.5, -19.5, 200), rng.uniform(6, 7, 200), rng.normal(-1.8, 0.02, 200)])
    box = np.column_stack([np.full(80, 10.0), rng.uniform(-1, 1, 80), rng.uniform(-1, 0.5, 80)])
    component = find_ground(np.concatenate([near, far, box]), np.empty((0, 3)), PARAMETERS, np.random.default_rng(0))
    assert set(component[:300]) == {0} and set(component[300:500]) == {1} and set(component[500:]) == {-1}


def test_sweeps_help_to_find_ground_but_are_not_labelled():
    rng = np.random.default_rng(0)
    patch = np.column_stack([rng.uniform(9, 11, 150), rng.uniform(-1, 1, 150), np.full(150, -1.8)])
    key, sweeps = patch[:50], patch[50:]
    nothing = np.empty((0, 3))
    assert (find_ground(key, nothing, PARAMETERS, np.random.default_rng(0)) == -1).all(), "too few points alone"
    component = find_ground(key, sweeps, PARAMETERS, np.random.default_rng(0))
    assert component.tolist() == [0] * 50
    assert len(find_ground(nothing, patch, PARAMETERS, np.random.default_rng(0))) == 0
