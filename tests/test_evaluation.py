"""From outputs to predictions of points, confusion matrices and results."""

import argparse
import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch

from core import builder
from core.datasets.file_points import describe_points, voxel_of_points
from core.datasets.nuscenes import CLASSES
from core.datasets.projection import project
from core.errors import UserError
from core.loader.collate import collate
from core.models.two_branch import Outputs
from core.running.runtime import Run
from core.scores import scoring
from core.scores.evaluation import ConfusionCounts, batch_points, choices, count_in_view, head_labels
from core.scores.metrics import confusion_matrix, mean_iou
from tests import made_up
from tests.entry import logged
from tests.fake_labels import fake_config
from tests.fake_nuscenes import POINTS, write_fake_nuscenes
from tests.helpers import HERE

PRETRAIN = os.path.join(os.path.dirname(HERE), "configs/nuscenes/pretrain/assop2p.yaml")


def file_points(voxel, label=None, seen=None):
    """Points of a LiDAR file in the given voxels; seen where they are in one, unless said otherwise."""
    voxel = np.array(voxel, np.int32)
    return describe_points(voxel, voxel >= 0 if seen is None else np.array(seen), None, label)


def two_small_samples():
    """A sample of 3 voxels whose file has 8 points, and one of 2 voxels whose file has 4."""
    points = [file_points([-1, 0, 2, -1, 1, 0, -1, 2]), file_points([1, -1, -1, 0])]
    sizes = (3, 2)
    return [
        dataclasses.replace(made_up.sample(i, size=size), points=part)
        for i, (size, part) in enumerate(zip(sizes, points, strict=True))
    ]


def test_labels_by_hand():
    points = collate(two_small_samples()).points
    outputs = made_up.certain_outputs(np.array([4, 5, 6, 7, 8]), np.array([1, 0, 3, 2, 1]))
    outputs.x_pix[1, 9] = 1.0  # second best of the voxel for which the image head chooses the ignored class
    labels = head_labels(outputs, points)
    assert labels["vox"].tolist() == [0, 4, 6, 0, 5, 4, 0, 6, 8, 0, 0, 7] and labels["vox"].dtype == torch.uint8
    assert labels["pix"].tolist() == [0, 1, 3, 0, 0, 1, 0, 3, 1, 0, 0, 2]
    assert choices(outputs.x_pix, without=0).tolist() == [1, 9, 3, 2, 1] and outputs.x_pix[1, 0] == 20
    halved = Outputs(outputs.x_vox.bfloat16(), outputs.x_pix.half(), None, None, outputs.features)
    assert all(torch.equal(ours, labels[head]) for head, ours in head_labels(halved, points).items())
    assert list(head_labels(dataclasses.replace(outputs, x_pix=None), points)) == ["vox"]
    assert points.sizes == [8, 4] and points.labelled_frames == 0


def test_other_points_take_their_nearest_neighbours_voxel():
    xyz = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0], [6.4, 0, 0], [0, 0, 40], [np.nan] * 3], np.float32)
    voxel, rows = np.array([5, 3]), np.array([1, 3])
    assert voxel_of_points(voxel, rows, xyz, nearest=True).tolist() == [5, 5, 5, 3, 3, 5, -1]
    assert voxel_of_points(voxel, rows, xyz, nearest=False).tolist() == [-1, 5, -1, 3, -1, -1, -1]
    xyz, none = np.zeros((3, 3), np.float32), np.zeros(0, np.int64)  # without neighbours, or without need of them
    assert voxel_of_points(none, none, xyz, nearest=True).tolist() == [-1, -1, -1]
    assert voxel_of_points(np.array([3, 0, 5]), np.arange(3), xyz, nearest=True).tolist() == [3, 0, 5]


def in_view(outputs, batch):
    """[2, 17, 17] of one batch."""
    counts = ConfusionCounts((2,), 17, "cpu")
    count_in_view(counts, head_labels(outputs, batch.points), batch.points)
    return counts.numpy()


def test_frames_without_ground_truth_do_not_count():
    parts = [made_up.sample(0), dataclasses.replace(made_up.sample(1), points=file_points(np.arange(made_up.VOXELS)))]
    batch = collate(parts)
    assert batch.points.labelled_frames == 1
    counts = in_view(made_up.certain_outputs(np.ones(2 * made_up.VOXELS, int)), batch)
    assert counts.sum((1, 2)).tolist() == [made_up.VOXELS] * 2
    with pytest.raises(ValueError, match="mode 'eval' or 'estep'"):  # training samples are not scored
        batch_points(made_up.batch(points=None))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_fake_nuscenes(tmp_path_factory.mktemp("data"))


@pytest.fixture
def root(data, tmp_path):
    (tmp_path / "nuscenes").symlink_to(data)
    return tmp_path


def evaluation(root, monkeypatch, *overrides, **arguments):
    """Runs the evaluation command on the fake validation split; returns the network and the row of results."""
    network = made_up.SmallNetwork(3)
    monkeypatch.setattr(builder, "make_model", lambda config, device, imagenet: made_up.SmallNetwork(5))
    weights = root / "RUN/checkpoints_mstep_0/max-iou-vox-val.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": network.state_dict()}, weights)
    given = {"split": "val", "run_dir": None, "save_predictions": None, "submission": None, **arguments}
    config = fake_config(PRETRAIN, root, *overrides)
    scoring.evaluate(Run(config, argparse.Namespace(weight_path=str(weights), **given), None, torch.device("cpu")))
    row = None
    if os.path.exists(root / "RUN/results.json"):
        with open(root / "RUN/results.json", encoding="utf-8") as file:
            (row,) = json.load(file)
    return network.eval(), builder.make_reader(config, "val"), row


def by_hand(network, points):
    """The point head's choice for points by themselves, and its probability."""
    with torch.no_grad():
        logits = network.classifier_vox(network.points(torch.from_numpy(points)))
    return logits.argmax(1).numpy().astype(np.uint8), torch.softmax(logits, 1).amax(1).numpy()


@pytest.mark.parametrize("points", ["in_view", "all"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_evaluate(root, monkeypatch, points, batch_size):
    """Also of confidences: points that did not take part have those of the neighbour they follow."""
    folders = {"save_predictions": str(root / "predictions"), "submission": str(root / "submission")}
    overrides = (f"--dataset.points={points}", f"--eval_batch_size={batch_size}")
    network, reader, row = evaluation(root, monkeypatch, *overrides, **folders, confidences=True)
    in_view, everywhere = np.zeros((2, 17, 17), np.int64)
    for frame in reader:
        cloud, label = reader.load_points(frame), reader.load_labels(frame, POINTS)
        seen, (choice, confidence) = project(cloud, frame.cameras).seen, by_hand(network, cloud)
        if points == "in_view":
            distance = np.linalg.norm(cloud[:, None, :3] - cloud[None, seen, :3], axis=2)
            choice, confidence = (x[seen][distance.argmin(1)] for x in (choice, confidence))
        in_view = in_view + confusion_matrix(label[seen], choice[seen], 17)
        everywhere = everywhere + confusion_matrix(label, choice, 17)
        np.testing.assert_array_equal(np.fromfile(root / f"predictions/{frame.token}.bin", np.uint8), choice)
        found = np.fromfile(root / f"predictions/{frame.token}.confidence.bin", np.float16)
        np.testing.assert_allclose(found, confidence, atol=1e-3)
        submitted = np.fromfile(root / f"submission/lidarseg/val/{frame.token}_lidarseg.bin", np.uint8)
        assert (submitted > 0).all() and (submitted == choice)[choice > 0].all()
    assert (row["stage"], row["split"], row["points"], row["frames"]) == ("iteration 1", "val", points, 2)
    for scope, expected in (("vox/in_view", in_view), ("vox/all", everywhere)):
        assert row["scores"][scope]["confusion"] == expected.tolist()
        assert row["scores"][scope]["miou"] == pytest.approx(100 * mean_iou(expected), abs=1e-3)
    assert everywhere.sum() == 2 * POINTS and set(row["scores"]["vox/all"]["iou"]) == set(CLASSES.names[1:])
    assert os.path.exists(root / "predictions/meta.json") and os.path.exists(root / "submission/val/submission.json")


@pytest.mark.parametrize("split", ["train", "val"])
def test_frames_without_labels_are_predicted(root, monkeypatch, split):
    """Of any split, without scores, and the log says so; where nothing but scores is asked for, labels are needed."""
    whole = root / "whole"
    (root / "nuscenes").rename(whole)
    shutil.copytree(whole.resolve(), root / "nuscenes")
    shutil.rmtree(root / "nuscenes/lidarseg")
    with logged() as lines:
        row = evaluation(root, monkeypatch, split=split, save_predictions=str(root / "out"))[2]
    assert row is None and any(line.startswith("WARNING Predictions are not scored: label file") for line in lines)
    tokens = builder.make_reader(fake_config(PRETRAIN, root), split).tokens()
    assert {f"{token}.bin" for token in tokens} < set(os.listdir(root / "out"))
    with pytest.raises(UserError, match="label file .* is missing"):
        evaluation(root, monkeypatch, split=split)


def test_test_split_needs_somewhere_to_write(root, monkeypatch):
    reader = builder.make_reader
    monkeypatch.setattr(builder, "make_reader", lambda config, split: reader(config, "val"))
    with pytest.raises(UserError, match="--submission DIR or --save-predictions DIR"):
        evaluation(root, monkeypatch, split="test")
    with pytest.raises(UserError, match="--save-predictions DIR"):
        evaluation(root, monkeypatch, confidences=True)
