"""Odd and hostile data: each kind is either handled by a whole training step, E-step and evaluation, or refused in one
clear line that names the file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from core import builder
from core.datasets.nuscenes import NuScenes
from core.datasets.nuscenes.tables import CAMERAS
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.estep import no_grad_inference, run_estep
from core.label_files.files import read_pseudo_label
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.weak_label import label_frame
from core.labeling.pseudo_labels import PseudoLabelRules
from core.loader.collate import collate
from core.losses import LossWeights
from core.scores.evaluation import HEADS, ConfusionCounts, count_in_view, head_labels
from core.sparse.coordinates import pack
from core.training.trainer import SegmentationTrainer
from tests import made_up
from tests.entry import logged
from tests.fake_labels import fake_config, write_all_superpixels, write_weak_labels
from tests.fake_nuscenes import POINTS, VERSION, write_fake_nuscenes
from tests.fuzz import fuzz
from tests.helpers import HERE, refused

CONFIG = os.path.join(os.path.dirname(HERE), "configs/nuscenes/pretrain/assop2p.yaml")
CPU = torch.device("cpu")


@pytest.fixture
def root(tmp_path):
    return write_fake_nuscenes(tmp_path / "données de l'été 数据" / "nuscenes")


def reader_of(root):
    return NuScenes(str(root), VERSION, "train", str(root.parent / "index_path"))


def write_points(root, points):
    """Replaces the first frame's points, float32 [POINTS, 5]."""
    Path(reader_of(root).frame(0).lidar_path).write_bytes(np.asarray(points, np.float32).tobytes())


def points_of(root):
    return np.fromfile(reader_of(root).frame(0).lidar_path, np.float32).reshape(-1, 5)


def dataset(root, mode, points="in_view", *overrides):
    config = fake_config(CONFIG, root.parent, f"--dataset.points={points}", "--dataset.voxel_size=0.5", *overrides)
    reader = builder.make_reader(config, "train")
    if not os.path.exists(root.parent / "sparse_label_path"):
        write_weak_labels(config, reader)
        write_all_superpixels(config, reader)
    return builder.make_dataset(config, reader, mode, every_point=True)


def whole_steps(root, tmp_path, points="in_view", *overrides):
    """A training step on two frames, another on the first alone, an E-step, an evaluation; all of it finite."""
    data = dataset(root, "train", points, *overrides)
    network = made_up.network(dropout=0.3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    trainer = SegmentationTrainer(network, LossWeights(), optimizer, lambda k: 1.0, CPU)
    batches = [collate([data[0], data[1]]), collate([data[0]])]
    trainer.train(torch.utils.data.DataLoader(batches, batch_size=None), num_epochs=1)
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())

    infer = no_grad_inference(network, CPU)
    estep = dataset(root, "estep", points, *overrides)
    rules = PseudoLabelRules(foreground_classes=tuple(range(1, 11)))

    def load(indices):
        return [collate([estep[i]]) for i in indices]

    assert run_estep(infer, estep, load, str(tmp_path / "pseudo"), rules, "hash", {})["points"] == 2 * POINTS
    for token in estep.reader.tokens():
        assert len(read_pseudo_label(str(tmp_path / "pseudo"), token)) == POINTS

    batch = collate([dataset(root, "eval", points, *overrides)[0]])
    labels = head_labels(infer(batch), batch.points)
    assert len(labels["vox"]) == POINTS
    counts = ConfusionCounts((len(HEADS),), 17, CPU)
    count_in_view(counts, labels, batch.points)
    return counts.numpy().sum((1, 2))


@pytest.fixture
def frames(root):
    """Both scenes in one split, so that a step has two frames; below a path of letters of all kinds."""
    path = root / VERSION / "scene.json"
    path.write_text(path.read_text().replace("scene-0103", "scene-0553"))
    return root


def nowhere_in_view(points):
    points[:, :3] = [0.0, 0.0, 60.0]


def in_one_voxel(points):
    points[:, :3] = [8.0, 0.3, 0.1]


def one_in_view(points):
    in_one_voxel(points)
    points[1:, 2] = 60


def odd_intensity(points):
    points[:, 3] = np.where(np.arange(len(points)) % 2, -1.0, 999.0)


@pytest.mark.parametrize(
    ("change", "which"),
    [(nowhere_in_view, "in_view"), (in_one_voxel, "in_view"), (one_in_view, "in_view"), (odd_intensity, "all")],
)
def test_odd_scans_are_handled(frames, tmp_path, change, which):
    points = points_of(frames)
    change(points)
    write_points(frames, points)
    scored = whole_steps(frames, tmp_path, which)
    if change in (nowhere_in_view, one_in_view):
        assert scored.max() <= 1


def test_points_that_are_no_numbers_may_be_dropped(frames, tmp_path, which="all"):
    """They keep their rows, get no label of any kind, and 0 in predictions; everything else is as without them."""
    drop = "--dataset.invalid_points=drop"
    points = points_of(frames)
    before = dataset(frames, "eval", which)[0]
    nowhere = np.arange(0, POINTS, 3)
    points[nowhere[::2], 0], points[nowhere[1::2], 3] = np.nan, np.inf
    write_points(frames, points)
    assert whole_steps(frames, tmp_path, which, drop).sum() > 0
    data = dataset(frames, "eval", which, drop)
    sample = data[0]
    assert len(sample.points) == POINTS and not np.isin(sample.point_rows, nowhere).any()
    kept = ~np.isin(before.point_rows, nowhere)
    np.testing.assert_array_equal(sample.point_rows, before.point_rows[kept])
    seen = before.points.seen.copy()
    seen[nowhere] = False
    np.testing.assert_array_equal(sample.points.seen, seen)
    assert np.isfinite(sample.feats).all()
    everywhere = head_labels(made_up.certain_outputs(np.full(len(sample), 5)), collate([sample]).points)["vox"]
    assert set(np.flatnonzero(everywhere == 0)) == set(nowhere)
    token = data.reader.tokens()[0]
    assert not read_pseudo_label(str(tmp_path / "pseudo"), token)[nowhere].any()


def test_weak_labels_of_scans_with_points_that_are_no_numbers(root):
    """Dropped in the frame and in its earlier sweeps: no label."""
    reader = NuScenes(str(root), VERSION, "train", str(root.parent / "index_path"), invalid_points="drop")
    frame = reader.frame(1)
    for path in (frame.lidar_path, *(sweep.path for sweep in frame.sweeps)):
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        points[::4, 1] = np.nan
        points.tofile(path)
    label, statistics = label_frame(reader, frame, WeakLabelParameters(), seed=1)
    assert label.num_points == POINTS and statistics.num_points == POINTS
    assert (label.component[::4] == -1).all() and not label.sparse[::4].any() and not label.propagated[::4].any()
    assert len(reader.load_sweep(frame.sweeps[0])) == POINTS * 3 // 4
    refused(lambda: reader_of(root).load_sweep(frame.sweeps[0]), "not finite", "dataset.invalid_points to drop")


def test_points_too_far_for_voxels_are_dropped_and_counted(frames):
    """Beyond what a key of the sparse layers holds a voxel would lie in another sample of the batch."""
    points = points_of(frames)
    points[0, :3], points[1, :3], points[2, :3] = [9000, 0, 0], [0, -9000, 0], [0, 0, 900]
    write_points(frames, points)
    reader = reader_of(frames)
    data = SegmentationDataset(reader, "eval", points="all", voxel_size=0.05, image_size=(18, 32))
    with logged() as lines:
        samples = [data[1], data[0], data[0]]
    (warning,) = (line for line in lines if "too far" in line)
    assert warning.startswith(f"WARNING LiDAR file {reader.frame(0).lidar_path}: 3 of {POINTS} points")
    np.testing.assert_array_equal(samples[1].point_rows, np.arange(3, POINTS))
    np.testing.assert_array_equal(np.flatnonzero(samples[1].points.voxel < 0), np.arange(3))
    keys = pack(collate(samples).coords)
    assert len(torch.unique(keys)) == len(keys) and (keys >> 51 == collate(samples).coords[:, 3]).all()


def change_table(root, table, change):
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("camera_intrinsic", [[0, 0, 0], [0, 0, 0], [0, 0, 1]]),
        ("camera_intrinsic", [[1, 0], [0, 1]]),
        ("rotation", [0, 0, 0, 0]),
        ("translation", [float("nan"), 0, 0]),
    ],
    ids=["singular", "shape", "quaternion", "nan"],
)
def test_calibration_that_cannot_be(root, key, value):
    def change(rows):
        (row,) = (row for row in rows if row["token"] == f"C{CAMERAS[1]}")
        row[key] = value

    change_table(root, "calibrated_sensor", change)
    refused(lambda: reader_of(root), f"{root}/{VERSION}", "unpack")
    assert not (root.parent / "index_path").exists()


@pytest.mark.parametrize("table", ["sample", "sample_data", "ego_pose", "calibrated_sensor", "sensor", "scene"])
@pytest.mark.parametrize("kind", ["row", "token", "type"])
def test_tables_with_something_missing(root, table, kind):
    def change(rows):
        if kind == "row":
            del rows[0]
        elif kind == "token":
            del rows[0]["token"]
        else:
            rows[0] = 5

    change_table(root, table, change)
    try:
        reader = reader_of(root)
    except UserError as error:
        assert "\n" not in str(error) and str(root) in str(error)
    else:  # the row was of no frame of this split
        assert kind == "row" and len(reader) == 1


def test_random_damage(tmp_path):
    """A short run of the script; docs/reliability.md has the long one."""
    outcomes = fuzz(tmp_path / "files", cases=17 * 25, seconds=20, seed=5)
    assert sum(outcomes.values()) > 100
    assert outcomes["weak label", "refused"] > 0 and outcomes["superpixels", "refused"] > 0
