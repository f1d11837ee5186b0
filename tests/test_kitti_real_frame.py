"""Weak labels of one real SemanticKITTI scan with its real labels, and a blank image."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from core import builder
from core.labeling.annotation.weak_label import label_frame
from core.running.config import load_config
from tests.entry import ROOT

SOURCE = os.path.join(ROOT, "..", "shared", "data", "semantickitti_frame")
pytestmark = pytest.mark.skipif(not os.path.isdir(SOURCE), reason="no real SemanticKITTI scan beside the checkout")

CALIBRATION = """\
P2: 718.856 0 607.1928 45.38225 0 718.856 185.2157 -0.1130887 0 0 1 0.003779761
Tr: 4.276802385584e-04 -9.999672484946e-01 -8.084491683471e-03 -1.198459927713e-02 -7.210626507497e-03 \
8.081198471645e-03 -9.999413164504e-01 -5.403984729748e-02 9.999738645903e-01 4.859485810390e-04 \
-7.206933692422e-03 -2.921968648686e-01
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    root = tmp_path_factory.mktemp("kitti")
    folder = root / "sequences/00"
    for part, file in (("velodyne", "000000.bin"), ("labels", "000000.label")):
        (folder / part).mkdir(parents=True)
        shutil.copy(os.path.join(SOURCE, file), folder / part)
    (folder / "image_2").mkdir()
    Image.new("RGB", (1241, 376)).save(folder / "image_2/000000.png")
    (folder / "calib.txt").write_text(CALIBRATION)
    keys = ["--dataset.root", str(root), "--dataset.index_path", str(root / "index")]
    config = load_config(os.path.join(ROOT, "configs/semantic_kitti/pretrain/preseg.yaml"), overrides=keys)
    return config, builder.make_reader(config, "train", sweeps=True)


def test_about_a_sixth_of_the_scan_is_in_view(reader):
    _, reader = reader
    frame = reader.frame(0)
    points = reader.load_points(frame)
    labels = reader.load_labels(frame, len(points))
    assert len(points) == 123389 and set(np.unique(labels)) <= set(range(20))
    seen = reader.project(frame, points).seen
    assert 0.14 < seen.mean() < 0.19
    assert (points[seen, 0] > np.abs(points[seen, 1])).all()  # the camera's view is narrower than a right angle


def test_shares(reader):
    config, reader = reader
    parameters = builder.weak_label_parameters(config)
    _, statistics = label_frame(reader, reader.frame(0), parameters, config.train.seed)
    shares = [100 * share for share in (statistics.sparse, statistics.propagated, statistics.negative)]
    print("sparse, propagated, negative %:", shares, sum(statistics.correct) / sum(statistics.total))
    assert 0.10 <= shares[0] <= 0.17 and 15 <= shares[1] <= 26 and 63 <= shares[2] <= 75
    assert sum(statistics.correct) >= 0.99 * sum(statistics.total)
