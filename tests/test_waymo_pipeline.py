"""All steps end to end on a tiny city in Waymo's format, from Parquet to the submission."""

import json
import os

import numpy as np
import pytest

from core.datasets.waymo import Waymo
from core.datasets.waymo.message import submitted_frames
from core.label_files.files import read_pseudo_label, read_weak_label
from core.synthetic.city import City
from core.synthetic.formats import find_format
from core.synthetic.generate import generate_city
from tests.entry import ROOT, SHRINK, all_steps, contents, overrides, run_script

CONFIGS = f"{ROOT}/configs/waymo"
SIZES = dict(train_scenes=2, val_scenes=1, test_scenes=1, frames=2, azimuth_steps=72, image_size=(64, 96), seed=7)
CITY = City(format="waymo", **SIZES)
PRESEG, ASSOP2P = f"{CONFIGS}/pretrain/preseg.yaml", f"{CONFIGS}/pretrain/assop2p.yaml"
TEST_FRAMES = "3d_semseg_test_frames.txt"


@pytest.fixture(scope="module")
def city(tmp_path_factory):
    root = tmp_path_factory.mktemp("waymo") / "city"
    generate_city(str(root), CITY)
    return root


@pytest.fixture(scope="module")
def words(city, tmp_path_factory):
    """Overrides that point at the city."""
    folder = tmp_path_factory.mktemp("prepared")
    keys = {
        **SHRINK,
        "dataset.root": city,
        "dataset.index_path": folder / "index",
        "dataset.sparse_label_path": folder / "weak",
        "dataset.superpixel": folder / "seeds",
        "dataset.test_frames": city / TEST_FRAMES,
        "dataset.image_size": "[32,48]",
        "dataset.submission.account_name": "me@example.org",
        "model.imagenet_pretrain": "null",
    }
    return overrides(keys)


def test_the_city_is_the_same_again_and_complete(city, tmp_path):
    generate_city(str(tmp_path / "again"), CITY)
    for folder in ("training", "validation", "testing"):
        assert sorted(os.listdir(city / folder)) == sorted(os.listdir(tmp_path / "again" / folder))
        for component in os.listdir(city / folder):
            assert contents(city / folder / component) == contents(tmp_path / "again" / folder / component)
    assert not (city / "testing/lidar_segmentation").exists() and len(os.listdir(city / "training/lidar")) == 2
    names = find_format("waymo").scene_names()
    assert [len(set(names[split])) for split in ("train", "val", "test")] == [798, 202, 150]
    assert all(name.count("_") == 4 and name.split("_")[0].isdigit() for name in names["train"])
    assert len((city / TEST_FRAMES).read_text().splitlines()) == 2


def test_all_steps(city, words, tmp_path):
    """Labels, training and a round of the steps, scores by both rules, predictions, submission."""
    run = tmp_path / "run"
    run_script("prepare_sparse_label", PRESEG, *words)
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *words)
    all_steps(CONFIGS, run, words, rounds=1)
    last = run / "checkpoints_mstep_0/max-iou-vox-val.pt"
    lines = run_script(
        "eval_miou", ASSOP2P, "--weight-path", last, "--save-predictions", tmp_path / "predictions", *words
    )
    assert "all, benchmark's rule" in "\n".join(lines)
    row = json.loads((run / "results.json").read_text())[-1]
    assert row["points"] == "all" and row["scores"]["vox/all"]["benchmark"]["iou"]["traffic_light"] == 100.0
    assert row["scores"]["vox/all"]["iou"]["traffic_light"] is None

    reader = Waymo(str(city), "v2", "train", words[words.index("--dataset.index_path") + 1])
    weak_dir = words[words.index("--dataset.sparse_label_path") + 1]
    for frame in reader:
        points = reader.load_points(frame)
        seen = reader.project(frame, points).seen
        weak = read_weak_label(weak_dir, frame.token, len(points))
        assert weak.sparse.any() and not weak.sparse[~seen].any() and weak.candidates.any()
        assert len(read_pseudo_label(str(run / "pseudo_labels_0"), frame.token)) == len(points)

    run_script("eval_miou", ASSOP2P, "--weight-path", last, "--split", "test", "--submission", tmp_path / "sub", *words)
    message = (tmp_path / "sub/submission.bin").read_bytes()
    frames = list(submitted_frames(message))
    assert [f"{frame.segment},{frame.timestamp}" for frame in frames] == (city / TEST_FRAMES).read_text().split()
    labels = np.stack(frames[0].labels)
    assert labels.shape == (2, 64, 72) and (labels[0] > 0).mean() > 0.7 and labels.max() <= 22
