"""Weak labels and superpixels of one real nuScenes key frame (its labels are crude stand-ins)."""

import os

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score as rand_score

from benchmarks.frames import add_sweeps
from benchmarks.plain import weak_labels as plain
from benchmarks.weak_labels import package_clusters
from core.datasets.nuscenes import NuScenes
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.weak_label import gather_sweeps, label_frame, read_key_frame
from core.labeling.clusters import find_clusters
from core.labeling.ground.ground import find_ground

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "shared", "data", "nuscenes_keyframe")
pytestmark = pytest.mark.skipif(not os.path.isdir(ROOT), reason="no real nuScenes frame beside the checkout")
PARAMETERS = WeakLabelParameters()
# least and largest shares of the frame with sweeps by benchmarks/plain/weak_labels.py, seeds 0 to 19
PLAIN_SHARES = {"sparse": (0.01017, 0.01079), "propagated": (0.3088, 0.3348), "negative": (0.6044, 0.6362)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    index = str(tmp_path_factory.mktemp("index"))
    return NuScenes(os.path.abspath(ROOT), "v1.0-mini", "train", index, num_sweeps=5)


@pytest.fixture(scope="module")
def with_sweeps(reader, tmp_path_factory):
    """The frame with five sweeps made of it."""
    return add_sweeps(reader.frame(0), str(tmp_path_factory.mktemp("sweeps")))


def test_shares_are_those_of_a_plain_rendering(reader, with_sweeps):
    """All seeds give shares between those that the published order of work gives with its own seeds."""
    ours = [vars(label_frame(reader, with_sweeps, PARAMETERS, seed)[1]) for seed in range(5)]
    theirs = [plain.label_frame(with_sweeps, reader.classes, seed).shares for seed in range(2)]
    for name, (least, largest) in PLAIN_SHARES.items():
        for shares in [*ours, *theirs]:
            assert least <= shares[name] <= largest, (name, shares[name])


def seen_points(reader, frame):
    points, _, in_view = read_key_frame(reader, frame)
    return points[in_view, :3].astype(np.float64)


def kitti_scan():
    """Every other point in front of the vehicle of a SemanticKITTI scan, [n, 3] (m)."""
    path = os.path.join(ROOT, "..", "semantickitti_frame", "000000.bin")
    xyz = np.fromfile(path, np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
    return xyz[xyz[:, 0] > 0][::2]


@pytest.mark.parametrize("scan", ["nuscenes", "semantic_kitti"])
def test_clusters_agree_with_the_package(scan, reader, with_sweeps):
    """As well as the package, which takes points and equal edges as they come, agrees with itself in another order."""
    xyz, sweeps = kitti_scan(), np.empty((0, 3))
    if scan == "nuscenes":
        xyz, sweeps = seen_points(reader, with_sweeps), gather_sweeps(reader, with_sweeps, PARAMETERS)
    xyz = xyz[find_ground(xyz, sweeps, PARAMETERS, np.random.default_rng(0)) < 0]
    ours, theirs = find_clusters(xyz, PARAMETERS.clusterer), package_clusters(xyz)
    order = np.random.default_rng(0).permutation(len(xyz))
    assert rand_score(ours, theirs) > rand_score(theirs[order], package_clusters(xyz[order])) - 0.01
    assert rand_score(ours[order], find_clusters(xyz[order], PARAMETERS.clusterer)) == 1.0
