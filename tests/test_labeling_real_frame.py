"""Weak labels of a real nuScenes key frame (its labels are crude stand-ins) and of a real SemanticKITTI scan."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score as rand_score

from benchmarks.frames import add_sweeps
from benchmarks.plain import weak_labels as plain
from benchmarks.weak_labels import package_clusters
from core import builder
from core.datasets.nuscenes import NuScenes
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.weak_label import gather_sweeps, label_frame, read_key_frame
from core.labeling.clusters import find_clusters
from core.labeling.ground.ground import find_ground
from core.running.config import load_config
from tests.entry import ROOT

DATA = os.path.join(os.path.dirname(ROOT), "shared", "data")
NUSCENES, KITTI = f"{DATA}/nuscenes_keyframe", f"{DATA}/semantickitti_frame"
pytestmark = pytest.mark.skipif(not os.path.isdir(DATA), reason="no real frames beside the checkout")
PARAMETERS = WeakLabelParameters()
# least and largest shares of the frame with sweeps by benchmarks/plain/weak_labels.py, seeds 0 to 19
PLAIN_SHARES = {"sparse": (0.01017, 0.01079), "propagated": (0.3088, 0.3348), "negative": (0.6044, 0.6362)}
KITTI_SHARES = {"sparse": (0.0010, 0.0017), "propagated": (0.15, 0.26), "negative": (0.63, 0.75)}
CALIBRATION = """\
P2: 718.856 0 607.1928 45.38225 0 718.856 185.2157 -0.1130887 0 0 1 0.003779761
Tr: 4.276802385584e-04 -9.999672484946e-01 -8.084491683471e-03 -1.198459927713e-02 -7.210626507497e-03 \
8.081198471645e-03 -9.999413164504e-01 -5.403984729748e-02 9.999738645903e-01 4.859485810390e-04 \
-7.206933692422e-03 -2.921968648686e-01
"""


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory):
    """The reader and the frame with five sweeps made of it."""
    folder = tmp_path_factory.mktemp("sweeps")
    reader = NuScenes(NUSCENES, "v1.0-mini", "train", str(folder / "index"), num_sweeps=5)
    return reader, add_sweeps(reader.frame(0), str(folder))


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    """The configuration and the reader of the scan, with a blank image."""
    root = tmp_path_factory.mktemp("kitti")
    folder = root / "sequences/00"
    for part, file in (("velodyne", "000000.bin"), ("labels", "000000.label")):
        (folder / part).mkdir(parents=True)
        shutil.copy(f"{KITTI}/{file}", folder / part)
    (folder / "image_2").mkdir()
    Image.new("RGB", (1241, 376)).save(folder / "image_2/000000.png")
    (folder / "calib.txt").write_text(CALIBRATION)
    keys = ["--dataset.root", str(root), "--dataset.index_path", str(root / "index")]
    config = load_config(f"{ROOT}/configs/semantic_kitti/pretrain/preseg.yaml", overrides=keys)
    return config, builder.make_reader(config, "train", sweeps=True)


def test_shares_are_those_of_a_plain_rendering(nuscenes):
    """All seeds give shares between those that the published order of work gives with its own seeds."""
    reader, frame = nuscenes
    ours = [vars(label_frame(reader, frame, PARAMETERS, seed)[1]) for seed in range(5)]
    theirs = [plain.label_frame(frame, reader.classes, seed).shares for seed in range(2)]
    for name, (least, largest) in PLAIN_SHARES.items():
        for shares in [*ours, *theirs]:
            assert least <= shares[name] <= largest, (name, shares[name])


def test_a_sixth_of_the_kitti_scan_is_in_view_and_its_shares(kitti):
    config, reader = kitti
    frame = reader.frame(0)
    points = reader.load_points(frame)
    seen = reader.project(frame, points).seen
    assert len(points) == 123389 and 0.14 < seen.mean() < 0.19
    assert (points[seen, 0] > np.abs(points[seen, 1])).all()  # the camera's view is narrower than a right angle
    _, statistics = label_frame(reader, frame, builder.weak_label_parameters(config), config.train.seed)
    assert all(least <= getattr(statistics, name) <= largest for name, (least, largest) in KITTI_SHARES.items())
    assert sum(statistics.correct) >= 0.99 * sum(statistics.total)


@pytest.mark.parametrize("scan", ["nuscenes", "semantic_kitti"])
def test_clusters_agree_with_the_package(scan, nuscenes):
    """As well as the package, which takes points and equal edges as they come, agrees with itself in another order."""
    xyz = np.fromfile(f"{KITTI}/000000.bin", np.float32).reshape(-1, 4)[:, :3].astype(np.float64)
    xyz, sweeps = xyz[xyz[:, 0] > 0][::2], np.empty((0, 3))
    if scan == "nuscenes":
        points, _, in_view = read_key_frame(*nuscenes)
        xyz, sweeps = points[in_view, :3].astype(np.float64), gather_sweeps(*nuscenes, PARAMETERS)
    xyz = xyz[find_ground(xyz, sweeps, PARAMETERS, np.random.default_rng(0)) < 0]
    ours, theirs = find_clusters(xyz, PARAMETERS.clusterer), package_clusters(xyz)
    order = np.random.default_rng(0).permutation(len(xyz))
    assert rand_score(ours, theirs) > rand_score(theirs[order], package_clusters(xyz[order])) - 0.01
    assert rand_score(ours[order], find_clusters(xyz[order], PARAMETERS.clusterer)) == 1.0
