"""The weak labels of the made-up city against a plain rendering of the paper, step by step."""

import numpy as np
import pytest

from benchmarks.plain import weak_labels as plain
from core.datasets.nuscenes import NuScenes
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate
from core.labeling.annotation.weak_label import gather_sweeps, pre_segment, read_key_frame, spread
from core.labeling.ground.polar import group_points, polar_cells

PARAMETERS = WeakLabelParameters()


@pytest.fixture(scope="module")
def frames(city, tmp_path_factory):
    """The city's reader and its frames."""
    reader = NuScenes(str(city), "v1.0-trainval", "train", str(tmp_path_factory.mktemp("index")), num_sweeps=5)
    return reader, list(reader)


def test_points_and_sweeps_are_the_same(frames):
    reader, listed = frames
    for frame in listed:
        points, labels, in_view = read_key_frame(reader, frame)
        expected = plain.read_key_frame(frame, reader.classes)
        np.testing.assert_array_equal(points, expected.points)
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_array_equal(in_view, expected.in_view)
        np.testing.assert_allclose(gather_sweeps(reader, frame, PARAMETERS), plain.gather(frame), atol=1e-9)


def test_ground_is_the_same_but_for_chance(frames):
    reader, listed = frames
    both = either = 0
    for frame in listed:
        points, _, in_view = read_key_frame(reader, frame)
        xyz, sweeps = points[in_view, :3].astype(np.float64), gather_sweeps(reader, frame, PARAMETERS)
        component, num_ground = pre_segment(xyz, sweeps, PARAMETERS, np.random.default_rng(0))
        ours, theirs = (component >= 0) & (component < num_ground), plain.ground(xyz, sweeps) >= 0
        both, either = both + (ours & theirs).sum(), either + (ours | theirs).sum()
        order, starts = group_points(*polar_cells(xyz, PARAMETERS.grid_size))
        cell = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        of_component = {(component[row], c) for row, c in zip(order, cell, strict=True) if ours[row]}
        assert len(of_component) == num_ground, "one component a cell"
    assert both > 0.95 * either > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_annotation_of_the_same_components_is_the_same(frames, seed):
    reader, listed = frames
    classes = reader.classes
    for frame in listed:
        points, labels, in_view = read_key_frame(reader, frame)
        xyz, sweeps = points[in_view, :3], gather_sweeps(reader, frame, PARAMETERS)
        component, num_ground = pre_segment(xyz, sweeps, PARAMETERS, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        found = annotate(component, num_ground, labels[in_view], 17, classes.things, PARAMETERS, rng)
        ours = spread(found, np.flatnonzero(in_view), len(points))
        theirs = plain.annotate(plain.read_key_frame(frame, classes), component, num_ground, classes, rng)
        np.testing.assert_array_equal(ours.component, theirs.component)
        np.testing.assert_array_equal(ours.propagated, theirs.propagated)
        bits = [sum(1 << c for c in theirs.candidates.get(k, [])) for k in range(len(ours.candidates))]
        assert ours.candidates.tolist() == bits
        for label in (ours, theirs):
            label_of = label.sparse[label.sparse > 0]
            assert np.isin(np.where(label_of == 255, 0, label_of), labels).all()
        assert sorted(zip(ours.component, ours.sparse, strict=True)) == sorted(
            zip(theirs.component, theirs.sparse, strict=True)
        ), "as many points of each class in each component, whichever they are"
