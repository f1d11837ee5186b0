"""All steps on the city as SemanticKITTI, and what is its own: files, shares by sequence, scopes, submission."""

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from core.datasets.semantic_kitti import CLASSES, SemanticKitti
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.weak_label import gather_sweeps
from core.synthetic.camera import View
from core.synthetic.city import City
from core.synthetic.formats.semantic_kitti import _RAW_OF_KIND, kitti_rig
from core.synthetic.generate import generate_city
from core.synthetic.labels import KIND
from tests.city_views import kinds_in_view
from tests.entry import ROOT, Project, all_steps, run_script

CONFIGS = os.path.join(ROOT, "configs", "semantic_kitti")
CITY = City(
    format="semantic_kitti",
    train_scenes=2,
    val_scenes=1,
    test_scenes=1,
    frames=2,
    azimuth_steps=180,
    image_size=(94, 310),
    seed=3,
)
LIGHT = {
    "model.name": "spvcnn_swiftnet18_assop2p",
    "dataset.image_size": "[46,154]",
    "dataset.seeds.num_superpixels": 64,
    "dataset.seeds.num_levels": 2,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kitti")
    generate_city(str(folder / "city"), CITY)
    paths = (str(folder / name) for name in ("city", "index", "weak", "seeds"))
    return Project(*paths, more=LIGHT)


@pytest.fixture(scope="module")
def run(project, tmp_path_factory):
    """Labels, training and one round of the steps."""
    run = tmp_path_factory.mktemp("runs") / "run"
    run_script("prepare_sparse_label", f"{CONFIGS}/pretrain/preseg.yaml", *project.words())
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *project.words())
    all_steps(CONFIGS, run, project.words(), rounds=1)
    return run


def reader_of(project, split="train", num_sweeps=0):
    return SemanticKitti(project.root, "v1.0", split, project.index, num_sweeps)


# ---- the city -------------------------------------------------------------------------------------------------------


def test_files(project):
    sequences = os.path.join(project.root, "sequences")
    assert sorted(os.listdir(sequences)) == ["00", "01", "08", "11"]
    for name in os.listdir(sequences):
        found = set(os.listdir(os.path.join(sequences, name)))
        files = {"velodyne", "image_2", "calib.txt", "poses.txt", "times.txt"}
        assert found == files | (set() if name == "11" else {"labels"})
    with open(os.path.join(sequences, "00/calib.txt")) as file:
        rows = dict(line.split(":") for line in file)
    assert list(rows) == ["P0", "P1", "P2", "P3", "Tr"]
    assert all(len(row.split()) == 12 for row in rows.values())
    p0, p2 = (np.array(rows[key].split(), float).reshape(3, 4) for key in ("P0", "P2"))
    np.testing.assert_allclose(np.linalg.inv(p0[:, :3]) @ p2[:, 3], (0.06, 0, 0), atol=1e-9)

    for frame in reader_of(project):
        (view,) = frame.cameras
        with Image.open(view.image_path) as image:
            assert image.size == (view.width, view.height) == ((310, 94) if frame.scene == "00" else (308, 93))


def test_every_class_is_in_the_city_and_things_have_instances(project):
    counts, moving, instances = np.zeros(20, int), set(), set()
    for split in ("train", "val"):
        reader = reader_of(project, split)
        for frame in reader:
            points, raw = reader.load_points(frame), np.fromfile(frame.label_path, np.uint32)
            assert points[:, 3].min() >= 0 and 0.3 < points[:, 3].max() <= 1
            label, instance = reader.load_labels(frame, len(points)), raw >> 16
            counts += np.bincount(label, minlength=20)
            assert not instance[label > 8].any() and instance[(label > 0) & (label <= 8)].all()
            moving |= set(np.unique(raw & 0xFFFF)) & set(range(252, 260))
            instances |= set(instance[label == 1])
            for car in set(instance[label == 1]):
                assert len(np.unique(raw[instance == car] & 0xFFFF)) == 1
    assert (counts[1:] > 0).all(), dict(zip(CLASSES.names, counts, strict=True))
    assert len(moving) >= 2 and len(instances) > 3


def test_points_fall_on_pixels_of_their_class(project):
    """By the files' own calibration, compared with a class map of the same caster."""
    reader = reader_of(project)
    agree = seen = 0
    for index, frame in enumerate(reader):
        points = reader.load_points(frame)
        label, found = reader.load_labels(frame, len(points)), reader.project(frame, points)
        camera = kitti_rig(CITY.azimuth_steps, CITY.image_size, frame.scene).cameras[0]
        kinds = kinds_in_view(View(CITY.scene(frame.scene), camera, 0.5 * (index % 2)))
        u, v = np.round(found.pixel[found.seen]).astype(int).T
        expected = CLASSES.from_raw[_RAW_OF_KIND[kinds[v, u]]]
        agree, seen = agree + int((expected == label[found.seen]).sum()), seen + int(found.seen.sum())
    assert seen > 3000 and agree / seen > 0.9


def test_a_wall_stays_where_it_is_while_the_vehicle_moves(project):
    """Building points of the scan before, moved by poses.txt, lie on those of this one's scene."""
    reader = reader_of(project, num_sweeps=1)
    frame = reader.frame(1)
    moved = gather_sweeps(reader, frame, WeakLabelParameters())
    before = reader.load_sweep(frame.sweeps[0])[:, :3]
    first = reader.frame(0)
    label = reader.load_labels(first, len(before))[(np.abs(before[:, :2]) >= 1).any(1)]
    scene, rig = CITY.scene("00"), kitti_rig(CITY.azimuth_steps, CITY.image_size, "00")
    pose = scene.vehicle_pose(0.5) @ rig.lidar.to_vehicle
    placed = moved[label == 13] @ pose[:3, :3].T + pose[:3, 3]
    solids = scene.solids
    walls = solids.label == KIND["building"]
    local = np.einsum("sij,nsj->nsi", solids.inverse[walls], placed[:, None] - solids.center[walls])
    gap = (np.abs(np.abs(local).max(2) - 1) * solids.half[walls].min(1)).min(1)
    assert len(gap) > 50 and np.percentile(gap, 80) < 0.1


# ---- the steps ------------------------------------------------------------------------------------------------------


def test_shares_are_told_by_sequence(project, run):
    with open(f"{project.weak}/meta.json") as file:
        statistics = json.load(file)["statistics"]
    assert list(statistics["scenes"]) == ["00", "01"]
    for key in ("sparse", "propagated", "negative"):
        mean = np.mean([scene[key] for scene in statistics["scenes"].values()])
        assert statistics[key] == pytest.approx(mean)
    assert statistics["propagated_accuracy"] > 0.95


def test_in_view_and_all_points(project, run):
    best = run / "checkpoints_mstep_0/max-iou-vox-val.pt"
    words = ["--weight-path", best, *project.words()]
    printed = {}
    for name in ("pretrain/assop2p", "eval/all"):
        printed[name] = "\n".join(run_script("eval_miou", f"{CONFIGS}/{name}.yaml", *words))
    assert (
        "of the points are in view" in printed["pretrain/assop2p"] and "no fair measure" in printed["pretrain/assop2p"]
    )
    assert "in view:" not in printed["eval/all"]
    with open(run / "results.json") as file:
        rows = {row["points"]: row for row in json.load(file)}
    assert set(rows) == {"in_view", "all"} and rows["all"]["stage"] == "iteration 1"
    assert list(rows["all"]["scores"]["vox/all"]["iou"]) == list(CLASSES.names[1:])
    counts = {points: np.sum(row["scores"]["vox/all"]["confusion"]) for points, row in rows.items()}
    assert counts["in_view"] == counts["all"] > 0


def test_a_submission(project, run, tmp_path):
    best = run / "checkpoints_mstep_0/max-iou-vox-val.pt"
    words = ["--weight-path", best, "--split", "test", "--submission", tmp_path / "out", *project.words()]
    lines = run_script("eval_miou", f"{CONFIGS}/eval/all.yaml", *words)
    assert any("and checked" in line for line in lines)
    reader = reader_of(project, "test")
    with zipfile.ZipFile(tmp_path / "out/submission.zip") as archive:
        assert archive.namelist()[:3] == ["sequences/", "sequences/11/", "sequences/11/predictions/"]
        for frame in reader:
            labels = np.frombuffer(archive.read(f"sequences/11/predictions/{frame.token[3:]}.label"), np.uint32)
            assert len(labels) == len(reader.load_points(frame)) and set(labels) <= set(CLASSES.to_raw[1:])
