"""The weak label of a frame: steps put together, sweeps, statistics, repeatability."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.datasets.frame import ClassTable, Frame, Sweep
from core.labeling.annotation.parameters import ClustererParameters, WeakLabelParameters
from core.labeling.annotation.statistics import (
    MAX_SCENES,
    average_statistics,
    scene_statistics,
    statistics_line,
    statistics_lines,
)
from core.labeling.annotation.weak_label import gather_sweeps, make_weak_label
from core.labeling.clusters import find_clusters

PARAMETERS, CLUSTERER = WeakLabelParameters(), ClustererParameters()
NO_SWEEPS = np.empty((0, 3))
CLASSES = ClassTable(
    ("ignored", "car", "road", "manmade"), (1,), np.zeros((4, 3), np.uint8), np.arange(4, dtype=np.uint8)
)
CAR, ROAD, MANMADE = 1, 2, 3


def street(seed=0):
    """Points (m) and labels of a flat road in two cells, a car, a wall and some scattered points.

    The second patch of road has a strip that is labelled manmade.
    """
    rng = np.random.default_rng(seed)

    def box(count, low, high):
        return rng.uniform(low, high, (count, 3))

    near, far = box(300, (9, -1, -1.82), (11, 1, -1.78)), box(300, (19, -1, -1.82), (21, 1, -1.78))
    car, wall = box(200, (9.5, -0.5, -1.2), (10.5, 0.5, 0.4)), box(300, (20, 5, -1), (20.2, 8, 1))
    lonely = box(10, (30, -40, 2), (80, 40, 20))
    points = np.concatenate([near, far, car, wall, lonely])
    labels = np.repeat(np.array([ROAD, ROAD, CAR, MANMADE, MANMADE], np.uint8), [300, 300, 200, 300, 10])
    labels[300:350] = MANMADE
    return points, labels


def label_street(in_view=None, seed=0):
    points, labels = street()
    in_view = np.ones(len(points), bool) if in_view is None else in_view
    return make_weak_label(points, NO_SWEEPS, in_view, labels, CLASSES, PARAMETERS, np.random.default_rng(seed))


def test_street():
    label, statistics = label_street()
    near, far, car, wall, lonely = np.split(np.arange(1110), [300, 600, 800, 1100])
    for part, expected in ((near, ROAD), (car, CAR), (wall, MANMADE)):
        assert set(label.propagated[part]) == {expected} and (label.sparse[part] == expected).sum() == 1
        assert len(set(label.component[part])) == 1 and not label.point_candidates()[part].any()
    assert not label.propagated[far].any() and set(label.point_candidates()[far]) == {1 << ROAD | 1 << MANMADE}
    assert sorted(label.sparse[far])[-2:] == [ROAD, MANMADE]
    assert not label.sparse[lonely].any() and set(label.component[lonely]) == {-1}
    assert len(label.candidates) == 4
    assert (statistics.num_points, statistics.num_in_view) == (1110, 1110)
    assert statistics.sparse == 5 / 1110
    assert statistics.propagated == 800 / 1110 and statistics.negative == 300 / 1110
    assert statistics.correct == statistics.total == [0, 200, 300, 300]


def test_points_out_of_view_take_no_part():
    in_view = np.ones(1110, bool)
    in_view[:300] = False
    label, statistics = label_street(in_view)
    assert not label.sparse[:300].any() and not label.propagated[:300].any() and set(label.component[:300]) == {-1}
    assert statistics.sparse == 4 / 1110 and statistics.propagated == 500 / 810 and statistics.negative == 300 / 810


@pytest.mark.parametrize("count", [0, 1, 5, 6])
def test_next_to_no_points(count):
    points, labels = street()
    rows = np.arange(count)
    label, statistics = make_weak_label(
        points[rows], NO_SWEEPS, np.ones(count, bool), labels[rows], CLASSES, PARAMETERS, np.random.default_rng(0)
    )
    assert label.num_points == count == statistics.num_points and not label.sparse.any()


def test_clusters_split_at_gaps():
    rng = np.random.default_rng(0)
    xyz = np.concatenate([rng.uniform(0, 1, (40, 3)), rng.uniform(0, 1, (40, 3)) + [9, 0, 0], [[50.0, 0, 0]]])
    cluster = find_clusters(xyz, CLUSTERER)
    assert len(set(cluster[:40])) == len(set(cluster[40:80])) == 1 and cluster[0] != cluster[40] and cluster[80] == -1
    assert find_clusters(xyz[:5], CLUSTERER).tolist() == [-1] * 5
    pair = np.concatenate([rng.normal(0, 0.02, (30, 3)) + [x, 0, 0] for x in (0, 0.3, 9)])
    counts = [find_clusters(pair, replace(CLUSTERER, cluster_selection_epsilon=e)).max() + 1 for e in (0.0, 0.5)]
    assert counts == [3, 2], "nearer than epsilon: one cluster"


def test_clusters_depend_on_neither_order_nor_the_cpus_sort(monkeypatch):
    """Points on a grid, so that edges of equal length abound; NumPy's quickest sort orders these as the CPU has it."""
    rng = np.random.default_rng(1)
    centers = rng.uniform(-40, 40, (30, 3)) * [1, 1, 0.05]
    xyz = np.unique(np.round(centers.repeat(50, 0) + rng.normal(size=(1500, 3)), 1), axis=0)
    cluster = find_clusters(xyz, CLUSTERER)
    assert cluster.max() >= 10 and (cluster < 0).any()

    def other_cpu(values, axis=-1, kind=None, **more):
        if kind == "stable":
            return argsort(values, axis, kind, **more)
        return len(values) - 1 - argsort(np.asarray(values)[::-1], axis, "stable")

    argsort = np.argsort
    monkeypatch.setattr(np, "argsort", other_cpu)
    order = rng.permutation(len(xyz))
    np.testing.assert_array_equal(find_clusters(xyz, CLUSTERER), cluster)
    np.testing.assert_array_equal(find_clusters(xyz[order], CLUSTERER)[np.argsort(order)], cluster)


def test_sweeps_are_cut_and_moved():
    clouds = {
        "a": np.array([[0.99, 0.99, 0, 7], [1.0, 0.0, 0, 7], [0.0, -1.0, 5, 7], [-0.5, 0.2, 9, 7]], np.float32),
        "b": np.array([[5, 6, 7, 8]], np.float32),
    }
    turn = np.array([[0.0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])  # a quarter to the left
    sweeps = (Sweep("a", turn), Sweep("b", np.eye(4)), Sweep("b", turn))
    frame = Frame("t", "s", "key", None, (), sweeps)
    reader: Any = SimpleNamespace(load_sweep=lambda sweep: clouds[sweep.path])
    gathered = gather_sweeps(reader, frame, WeakLabelParameters(num_sweeps=2))
    assert gathered.tolist() == [[10, 21, 30], [11, 20, 35], [5, 6, 7]]
    assert gather_sweeps(reader, replace(frame, sweeps=()), PARAMETERS).shape == (0, 3)


def test_statistics_are_averaged_over_frames():
    frames = [
        {"sparse": 0.01, "propagated": 0.5, "negative": 0.25, "correct": [0, 8, 0], "total": [0, 10, 0]},
        {"sparse": 0.03, "propagated": 0.25, "negative": 0.5, "correct": [0, 1, 2], "total": [0, 1, 4]},
        {"sparse": 0.02, "propagated": 0.0, "negative": 0.0, "correct": [0, 0, 0], "total": [0, 0, 0]},
    ]
    average = average_statistics(frames, ("ignored", "car", "road"))
    assert average["sparse"] == pytest.approx(0.02) and average["propagated"] == pytest.approx(0.25)
    assert average["propagated_accuracy"] == pytest.approx((0.8 + 0.6) / 2)
    assert average["propagated_accuracy_per_class"] == {"car": pytest.approx(0.9), "road": pytest.approx(0.5)}
    assert statistics_line(average) == (
        "weak labels of 3 frames: sparse 2.00 %, propagated 25.00 %, negative 25.00 %; propagated accuracy 70.00 %"
    )
    nothing = average_statistics([], ("ignored", "car"))
    assert nothing["sparse"] is None and "sparse -" in statistics_line(nothing)


def test_recordings_have_statistics_of_their_own():
    def frame(sparse, right):
        return {"sparse": sparse, "propagated": 0.5, "negative": 0.25, "correct": [0, right], "total": [0, 4]}

    frames, names = [frame(0.1, 4), frame(0.2, 2), frame(0.3, 4)], ("ignored", "car")
    scenes = scene_statistics(frames, ["b", "a", "b"], names)
    assert list(scenes) == ["b", "a"] and scenes["b"]["frames"] == 2
    assert scenes["b"]["sparse"] == pytest.approx(0.2) and scenes["a"]["propagated_accuracy"] == 0.5
    lines = statistics_lines({**average_statistics(frames, names), "scenes": scenes}).splitlines()
    assert [line.split(" frames")[0] for line in lines] == [
        "b: weak labels of 2",
        "a: weak labels of 1",
        "weak labels of 3",
    ]
    many = [str(i) for i in range(MAX_SCENES + 1)]
    assert scene_statistics([frame(0.1, 4)] * len(many), many, names) == {}
    assert scene_statistics(frames, ["a"] * 3, names) == {}
