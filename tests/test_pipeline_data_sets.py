"""All steps end to end on a tiny city in the formats of SemanticKITTI and Waymo; what is each one's own."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.datasets.catalog import open_dataset
from core.datasets.waymo.message import submitted_frames
from core.label_files.files import read_pseudo_label, read_weak_label
from core.synthetic.formats import find_format
from core.synthetic.generate import City, generate_city
from tests.conftest import SIZES
from tests.entry import ROOT, Project, all_steps, contents, run_script

CITIES = {
    "semantic_kitti": City(
        format="semantic_kitti", **{**SIZES, "azimuth_steps": 180, "image_size": (94, 310), "seed": 3}
    ),
    "waymo": City(format="waymo", **{**SIZES, "azimuth_steps": 72, "image_size": (64, 96)}),
}
TEST_FRAMES = "3d_semseg_test_frames.txt"
LAST = "checkpoints_mstep_0/max-iou-vox-val.pt"


def all_of(name, folder):
    """The city, its labels, a training and one round of the steps: (project, configurations, run directory)."""
    generate_city(str(folder / "city"), CITIES[name])
    more = {"semantic_kitti": {"model.name": "spvcnn_swiftnet18_assop2p", "dataset.image_size": "[46,154]"}}
    more["waymo"] = {
        "dataset.test_frames": folder / "city" / TEST_FRAMES,
        "dataset.image_size": "[32,48]",
        "dataset.submission.account_name": "me@example.org",
    }
    project = Project(*(str(folder / part) for part in ("city", "index", "weak", "seeds")), more=more[name])
    configs, run, words = f"{ROOT}/configs/{name}", folder / "run", project.words()
    run_script("prepare_sparse_label", f"{configs}/pretrain/preseg.yaml", *words)
    run_script("prepare_nusc_superpixel", f"{configs}/default.yaml", *words)
    all_steps(configs, run, words, rounds=1)
    return project, configs, run


@pytest.fixture(scope="module")
def kitti(tmp_path_factory):
    return all_of("semantic_kitti", tmp_path_factory.mktemp("kitti"))


@pytest.fixture(scope="module")
def waymo(tmp_path_factory):
    return all_of("waymo", tmp_path_factory.mktemp("waymo"))


def kitti_reader(project, split):
    return open_dataset("semantic_kitti", project.root, "v1.0", split, project.index, 0)


def rows_of(run):
    return json.loads((run / "results.json").read_text())


def test_files_and_classes_of_the_kitti_city(kitti):
    sequences = f"{kitti[0].root}/sequences"
    files = {"velodyne", "image_2", "calib.txt", "poses.txt", "times.txt"}
    found = {name: set(os.listdir(f"{sequences}/{name}")) - files for name in os.listdir(sequences)}
    assert found == {"00": {"labels"}, "01": {"labels"}, "08": {"labels"}, "11": set()}
    counts, moving = np.zeros(20, int), set()
    for reader in (kitti_reader(kitti[0], split) for split in ("train", "val")):
        for frame in reader:
            points, raw = reader.load_points(frame), np.fromfile(frame.label_path, np.uint32)
            assert points[:, 3].min() >= 0 and 0.3 < points[:, 3].max() <= 1
            label, instance = reader.load_labels(frame, len(points)), raw >> 16
            counts += np.bincount(label, minlength=20)
            assert not instance[label > 8].any() and instance[(label > 0) & (label <= 8)].all()
            moving |= set(np.unique(raw & 0xFFFF)) & set(range(252, 260))
            for car in set(instance[label == 1]):
                assert len(np.unique(raw[instance == car] & 0xFFFF)) == 1
    assert (counts[1:] > 0).all() and len(moving) >= 2


def test_semantic_kitti_is_scored_in_view_and_everywhere(kitti):
    project, configs, run = kitti
    with open(f"{project.weak}/meta.json") as file:
        assert list(json.load(file)["statistics"]["scenes"]) == ["00", "01"]
    words, printed = ["--weight-path", run / LAST, *project.words()], {}
    for name in ("pretrain/assop2p", "eval/all"):
        printed[name] = "\n".join(run_script("eval_miou", f"{configs}/{name}.yaml", *words))
    text = printed["pretrain/assop2p"]
    assert "of the points are in view" in text and "no fair measure" in text and "in view:" not in printed["eval/all"]
    rows = {row["points"]: row for row in rows_of(run)}
    assert set(rows) == {"in_view", "all"} and rows["all"]["stage"] == "iteration 1"
    in_view, everywhere = (np.sum(row["scores"]["vox/all"]["confusion"]) for row in rows.values())
    assert in_view == everywhere > 0


def test_semantic_kitti_is_submitted(kitti, tmp_path):
    project, configs, run = kitti
    words = ["--weight-path", run / LAST, "--split", "test", "--submission", tmp_path / "out", *project.words()]
    lines = run_script("eval_miou", f"{configs}/eval/all.yaml", *words)
    assert any("and checked" in line for line in lines)
    reader = kitti_reader(project, "test")
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        for frame in reader:
            labels = np.frombuffer(archive.read(f"sequences/11/predictions/{frame.token[3:]}.label"), np.uint32)
            assert len(labels) == len(reader.load_points(frame)) and set(labels) <= set(reader.classes.to_raw[1:])


def test_the_waymo_city_is_the_same_again_and_complete(waymo, tmp_path):
    city = waymo[0].root
    generate_city(str(tmp_path / "again"), CITIES["waymo"])
    for split in ("training", "validation", "testing"):
        assert sorted(os.listdir(f"{city}/{split}")) == sorted(os.listdir(tmp_path / "again" / split))
        for component in os.listdir(f"{city}/{split}"):
            assert contents(f"{city}/{split}/{component}") == contents(tmp_path / "again" / split / component)
    assert not os.path.exists(f"{city}/testing/lidar_segmentation")
    names = find_format("waymo").scene_names()
    assert [len(set(names[split])) for split in ("train", "val", "test")] == [798, 202, 150]
    assert all(name.count("_") == 4 and name.split("_")[0].isdigit() for name in names["train"])


def test_waymo_is_labelled_scored_by_both_rules_and_submitted(waymo, tmp_path):
    project, configs, run = waymo
    config, words = f"{configs}/pretrain/assop2p.yaml", ["--weight-path", run / LAST, *project.words()]
    lines = run_script("eval_miou", config, "--save-predictions", tmp_path / "predictions", *words)
    assert "all, benchmark's rule" in "\n".join(lines)
    row = rows_of(run)[-1]
    assert row["points"] == "all" and row["scores"]["vox/all"]["benchmark"]["iou"]["traffic_light"] == 100.0
    assert row["scores"]["vox/all"]["iou"]["traffic_light"] is None

    reader = open_dataset("waymo", project.root, "v2", "train", project.index, 0)
    for frame in reader:
        points = reader.load_points(frame)
        seen = reader.project(frame, points).seen
        weak = read_weak_label(project.weak, frame.token, len(points))
        assert weak.sparse.any() and not weak.sparse[~seen].any() and weak.candidates.any()
        assert len(read_pseudo_label(str(run / "pseudo_labels_0"), frame.token)) == len(points)

    run_script("eval_miou", config, "--split", "test", "--submission", tmp_path / "sub", *words)
    frames = list(submitted_frames((tmp_path / "sub/submission.bin").read_bytes()))
    listed = Path(project.root, TEST_FRAMES).read_text().split()
    assert [f"{frame.segment},{frame.timestamp}" for frame in frames] == listed and len(listed) == 2
    labels = np.stack(frames[0].labels)
    assert labels.shape == (2, 64, 72) and (labels[0] > 0).mean() > 0.7 and labels.max() <= 22
