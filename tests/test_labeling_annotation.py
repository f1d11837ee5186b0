"""Annotation: which components and classes are annotated, how often, and what follows for the other points."""

from dataclasses import replace

import numpy as np
import pytest

from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate, remaining_classes

PARAMETERS = WeakLabelParameters()
THINGS = tuple(range(1, 11))
CLASSES = 17
CAR, PERSON, ROAD, MANMADE, VEGETATION = 4, 7, 11, 15, 16


def remaining(counts, ground=False):
    """Classes that the annotator sees in one component with these numbers of points per class."""
    table = np.zeros((1, CLASSES), np.int64)
    for c, count in counts.items():
        table[0, c] = count
    return np.flatnonzero(remaining_classes(table, int(ground), THINGS, PARAMETERS)[0]).tolist()


def annotated(component, labels, num_ground=0, seed=0, **changes):
    parameters = replace(PARAMETERS, **changes)
    component, labels = np.asarray(component, np.int32), np.asarray(labels, np.uint8)
    return annotate(component, num_ground, labels, CLASSES, THINGS, parameters, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({ROAD: 1}, [ROAD]),
        ({0: 50}, []),
        ({0: 50, ROAD: 1}, [0, ROAD]),
        ({ROAD: 100000, CAR: 1, 0: 1}, [0, CAR, ROAD]),
    ],
)
def test_every_class_of_ground_counts(counts, expected):
    assert remaining(counts, ground=True) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({CAR: 4}, []),
        ({CAR: 5}, [CAR]),
        ({CAR: 1, VEGETATION: 4}, [CAR, VEGETATION]),
        ({MANMADE: 9}, []),
        ({MANMADE: 10}, [MANMADE]),
        ({MANMADE: 1, VEGETATION: 9}, [MANMADE, VEGETATION]),
        ({VEGETATION: 19}, []),
        ({VEGETATION: 20}, [VEGETATION]),
        ({0: 15, VEGETATION: 5}, [0, VEGETATION]),
        ({0: 100}, []),
    ],
)
def test_small_clusters_are_skipped(counts, expected):
    assert remaining(counts) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # no thing: up to 1 %
        ({VEGETATION: 99, MANMADE: 1}, [VEGETATION]),
        ({VEGETATION: 98, MANMADE: 2}, [MANMADE, VEGETATION]),
        ({0: 199, VEGETATION: 1}, [0]),
        # one thing, the majority: up to 10 %
        ({CAR: 90, VEGETATION: 10}, [CAR]),
        ({CAR: 89, VEGETATION: 11}, [CAR, VEGETATION]),
        ({CAR: 90, 0: 10}, [CAR]),
        # one thing, not the majority: up to 0.1 %
        ({VEGETATION: 999, CAR: 1}, [VEGETATION]),
        ({VEGETATION: 998, CAR: 2}, [CAR, VEGETATION]),
        ({VEGETATION: 990, CAR: 5, MANMADE: 5}, [CAR, MANMADE, VEGETATION]),
        # several things: up to 0.1 %
        ({CAR: 995, PERSON: 5}, [CAR, PERSON]),
        ({CAR: 998, PERSON: 1, VEGETATION: 1}, [CAR]),
    ],
)
def test_rare_classes_of_clusters_are_dropped(counts, expected):
    assert remaining(counts) == expected


def test_component_of_one_class_is_propagated():
    label = annotated([0] * 6 + [-1] * 2, [CAR] * 6 + [VEGETATION] * 2)
    assert sorted(label.sparse) == [0] * 7 + [CAR]
    assert label.propagated.tolist() == [CAR] * 6 + [0, 0]
    assert label.component.tolist() == [0] * 6 + [-1, -1]
    assert label.candidates.tolist() == [0] and not label.point_candidates().any()


def test_component_of_several_classes_has_candidates():
    labels = [ROAD] * 5 + [CAR] * 2 + [0]
    label = annotated([0] * 8, labels, num_ground=1)
    assert sorted(label.sparse) == [0] * 5 + [CAR, ROAD, 255], "255: annotated, of the ignored class"
    assert label.sparse[7] == 255
    assert not label.propagated.any()
    assert label.candidates.tolist() == [1 | 1 << CAR | 1 << ROAD]
    assert label.point_candidates().tolist() == [1 | 1 << CAR | 1 << ROAD] * 8


def test_component_left_with_the_ignored_class_only_propagates_nothing():
    label = annotated([0] * 200, [0] * 199 + [VEGETATION])
    assert sorted(set(label.sparse)) == [0, 255] and (label.sparse == 255).sum() == 1
    assert not label.propagated.any() and label.candidates.tolist() == [0]


def test_points_per_class():
    label = annotated([0] * 9, [ROAD] * 5 + [CAR] * 2 + [0] * 2, num_ground=1, point_per_class=3)
    assert [(label.sparse == c).sum() for c in (ROAD, CAR, 255)] == [3, 2, 1]
    assert (annotated([0] * 6, [CAR] * 6, point_per_class=3).sparse > 0).sum() == 1


def test_skipped_components_are_left_out_of_the_numbering():
    component = [0] * 3 + [1] * 4 + [2] * 5 + [3] * 6
    labels = [0] * 3 + [CAR] * 4 + [CAR] * 5 + [CAR] * 3 + [PERSON] * 3
    label = annotated(component, labels, num_ground=1)
    assert label.component.tolist() == [-1] * 7 + [0] * 5 + [1] * 6
    assert label.candidates.tolist() == [0, 1 << CAR | 1 << PERSON]
    assert not label.sparse[:7].any()
