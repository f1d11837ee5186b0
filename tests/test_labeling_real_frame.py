"""Weak labels and superpixels of one real nuScenes key frame (its labels are crude stand-ins)."""

import os

import numpy as np
import pytest

from core.datasets.label_files import read_superpixels
from core.datasets.nuscenes import NuScenes
from core.datasets.projection import project
from core.labeling.parameters import SuperpixelParameters, WeakLabelParameters
from core.labeling.prepare import prepare_superpixels
from core.labeling.weak_label import label_frame, pre_segment

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", "nuscenes_keyframe")
pytestmark = pytest.mark.skipif(not os.path.isdir(ROOT), reason="no real nuScenes frame beside the checkout")
PARAMETERS = WeakLabelParameters()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    index = str(tmp_path_factory.mktemp("index"))
    return NuScenes(os.path.abspath(ROOT), "v1.0-mini", "train", index, num_sweeps=5)


@pytest.fixture(scope="module")
def labelled(reader):
    return label_frame(reader, reader.frame(0), PARAMETERS, 1)


def test_shares(labelled):
    label, statistics = labelled
    assert label.num_points == 34688 and 10000 < statistics.num_in_view < 34688
    assert 0.002 < statistics.sparse < 0.02
    assert 0.7 < statistics.propagated + statistics.negative <= 1.0
    assert min(statistics.propagated, statistics.negative) > 0.1
    assert sum(statistics.correct) > 0.95 * sum(statistics.total)


def test_every_component_is_annotated(labelled):
    label, _ = labelled
    counts = np.bincount(label.component[label.sparse > 0], minlength=len(label.candidates))
    several = label.candidates > 0
    assert (counts[~several] == 1).all() and (counts[several] >= 2).all()
    assert not label.sparse[label.component < 0].any() and not label.propagated[label.component < 0].any()


def test_ground_is_low_and_flat(reader):
    frame = reader.frame(0)
    points = reader.load_points(frame)
    seen = points[project(points, frame.cameras).seen, :3]
    component, num_ground = pre_segment(seen, np.empty((0, 3)), PARAMETERS, np.random.default_rng(0))
    ground = (component >= 0) & (component < num_ground)
    close = np.hypot(seen[:, 0], seen[:, 1]) < 20
    assert num_ground > 20 and 0.3 < ground.mean() < 0.9
    assert (np.abs(seen[ground & close, 2] + 1.84) < 0.6).mean() > 0.95, "the sensor is 1.84 m above the road"
    low = close & (seen[:, 2] < -1.6)
    assert ground[low].mean() > 0.85


def test_superpixels(reader, tmp_path):
    parameters = SuperpixelParameters(image_size=(90, 160), num_superpixels=256)
    assert prepare_superpixels(reader, str(tmp_path), parameters) == {"frames": 1, "images": 6}
    for camera in reader.frame(0).cameras:
        ids = read_superpixels(str(tmp_path), camera.token, (90, 160))
        assert 100 < len(np.unique(ids)) < 400
        assert os.path.getsize(tmp_path / f"{camera.token}.png") < 8000
