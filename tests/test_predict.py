"""From a folder of bare point clouds to predictions: the commands of docs/recordings.md, and what predict.py writes."""

import os
import shutil

import numpy as np
import pytest
import yaml

from core.datasets.recordings.pcd import read_pcd
from core.labeling.annotation.journal import Answer, Point, append, label_action
from core.labeling.annotation.proposals import read_proposal
from core.labeling.annotation.uncertainty import component_uncertainty
from core.synthetic.generate import City, generate_city
from tests.entry import PRETRAIN, ROOT, SHRINK, overrides, refusal, run_script
from tests.fake_recordings import write_pcd

OWN = f"{ROOT}/configs/recordings"
CITY = City("recordings", 1, 1, 0, frames=3, azimuth_steps=90, image_size=(32, 48), seed=7)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder of .pcd files, some rows of which are NaN, and nothing else; classes.yaml lies elsewhere."""
    folder = tmp_path_factory.mktemp("bare")
    generate_city(str(folder / "city"), CITY)
    os.makedirs(folder / "clouds")
    for i in range(3):
        points = np.fromfile(folder / f"city/train_000/lidar/{i:06d}.bin", np.float32).reshape(-1, 4)
        points[::50, :3] = np.nan
        write_pcd(folder / f"clouds/{i}.pcd", points)
    shutil.copy(folder / "city/classes.yaml", folder / "classes.yaml")
    return folder


@pytest.fixture(scope="module")
def labelled(bare):
    """Scripted clicks on the largest components of the first two clouds, labels and a trained network."""
    words = overrides(
        {
            **{key: value for key, value in SHRINK.items() if not key.startswith("dataset.seeds")},
            "dataset.root": bare / "clouds",
            "dataset.classes": bare / "classes.yaml",
            "dataset.sparse_label_path": bare / "weak",
            "proposals.path": bare / "proposals",
            "proposals.journal": bare / "clicks.jsonl",
        }
    )
    run_script("prepare_sparse_label", f"{OWN}/pretrain/preseg.yaml", *words)
    names = [row["name"] for row in yaml.safe_load((bare / "classes.yaml").read_text())["classes"]]
    for i in range(2):
        token = f"clouds_{i}"
        proposal = read_proposal(str(bare / "proposals"), token)
        for k in map(int, proposal.queue(5)[:8]):
            row = int(np.flatnonzero(proposal.component == k)[0])
            name = "road" if k < proposal.num_ground else names[k % len(names)]
            points = (Point(token, proposal.cloud, row, name),)
            answer = Answer(token, k, proposal.identity, (name,), points)
            append(str(bare / "clicks.jsonl"), [label_action(answer, "anna", 1.0, 2.0)])
    run_script("label_from_clicks", f"{OWN}/pretrain/preseg.yaml", *words)
    run_script(PRETRAIN, f"{OWN}/pretrain/assop2p.yaml", "--run-dir", bare / "run", *words)
    return [str(word) for word in words], str(bare / "run/checkpoints/max-iou-vox-val.pt")


def test_bare_clouds_are_predicted(bare, labelled, tmp_path):
    words, best = labelled
    command = ["predict", f"{OWN}/pretrain/assop2p.yaml", "--weight-path", best, *words]
    classes = 12
    found = {}
    for kind in ("label", "npy", "pcd", "ply"):
        lines = run_script(*command, "--output", tmp_path / kind, "--format", kind)
        assert any("points a second" in line for line in lines)
        assert len([name for name in os.listdir(tmp_path / kind) if name.endswith(f".{kind}")]) == 3
    with open(bare / "clouds/0.pcd", "rb") as file:
        written = read_pcd(file)
    empty = np.isnan(written["x"])
    assert empty.sum() > 20
    found["label"] = np.fromfile(tmp_path / "label/clouds_0.label", np.uint32)
    found["npy"] = np.load(tmp_path / "npy/clouds_0.npy")["label"]
    with open(tmp_path / "pcd/clouds_0.pcd", "rb") as file:
        cloud = read_pcd(file)
    found["pcd"] = cloud["label"]
    np.testing.assert_array_equal(cloud["x"], written["x"])
    for kind, label in found.items():
        assert len(label) == len(empty), kind
        assert (label[empty] == 0).all() and (label[~empty] > 0).all() and label.max() < classes, kind
        np.testing.assert_array_equal(label, found["label"])
    confidence = np.load(tmp_path / "label/clouds_0_confidence.npy")
    assert ((confidence[~empty] > 1 / classes) & (confidence[~empty] <= 1)).all()
    open3d = pytest.importorskip("open3d")
    for kind in ("pcd", "ply"):
        opened = open3d.io.read_point_cloud(str(tmp_path / f"{kind}/clouds_0.{kind}"), remove_nan_points=True)
        assert len(opened.points) == (~empty).sum() and len(opened.colors) == len(opened.points)


def test_predictions_are_gone_on_with(labelled, tmp_path):
    """Among files of something else they are refused."""
    words, best = labelled
    command = ["predict", f"{OWN}/pretrain/assop2p.yaml", "--weight-path", best, "--output", tmp_path / "out", *words]
    run_script(*command)
    os.remove(tmp_path / "out/clouds_1.label")
    lines = run_script(*command)
    assert any("2 frames of this process are there already" in line for line in lines)
    assert any("1 frames predicted" in line for line in lines) and (tmp_path / "out/clouds_1.label").exists()
    for name in ("clouds_1.label", "meta.json"):
        os.remove(tmp_path / "out" / name)
    shutil.copy(tmp_path / "out/clouds_0.label", tmp_path / "out/unfinished.json")  # not ours
    assert "unfinished.json: not readable" in refusal(*command)
    os.remove(tmp_path / "out/unfinished.json")
    assert "holds files of something else" in refusal(*command)


def test_uncertainty_of_components(bare, labelled, tmp_path):
    words, best = labelled
    command = ["predict", f"{OWN}/pretrain/assop2p.yaml", "--weight-path", best, "--output", tmp_path, *words]
    run_script(*command, "--uncertainty")
    proposal = read_proposal(str(bare / "proposals"), "clouds_2")
    with np.load(tmp_path / "clouds_2_uncertainty.npz") as found:
        assert str(found["identity"]) == proposal.identity and str(found["window"]) == "clouds_2"
        counts = np.bincount(proposal.component[proposal.component >= 0])
        np.testing.assert_array_equal(found["points"], counts[found["component"]])
        for name in ("confidence", "entropy", "spread"):
            assert ((found[name] >= 0) & (found[name] <= 1)).all()
        assert np.isnan(found["disagreement"]).all()  # no image head
    assert "made with parameters.uncertainty = True" in refusal(*command)


def test_uncertainty_by_hand():
    component = np.array([0, 0, 0, 0, 2, 2, -1], np.int32)
    label = np.array([1, 1, 1, 2, 3, 3, 1], np.uint8)
    confidence = np.array([1, 0.5, 0.5, 1, 0.25, 0.75, 0])
    differs = np.array([1, 0, 1, 0, 1, 1, 1], bool)
    seen = np.array([1, 1, 0, 0, 0, 0, 1], bool)
    found = component_uncertainty(component, label, confidence, 1 - confidence, differs, seen, 4)
    assert found.component.tolist() == [0, 2] and found.points.tolist() == [4, 2] and found.label.tolist() == [1, 3]
    np.testing.assert_allclose(found.confidence, [0.75, 0.5])
    np.testing.assert_allclose(found.entropy, [0.25, 0.5])
    np.testing.assert_allclose(found.spread, [0.25, 0])
    np.testing.assert_allclose(found.disagreement, [0.5, np.nan])
    nothing = component_uncertainty(
        np.full(3, -1, np.int32), label[:3], confidence[:3], confidence[:3], None, seen[:3], 4
    )
    assert len(nothing.component) == len(nothing.spread) == 0


def test_the_commands_of_the_page(labelled, tmp_path):
    """docs/recordings.md, "From clouds to predictions": its lines, with the paths and sizes of this test."""
    words, _ = labelled
    with open(f"{ROOT}/docs/recordings.md", encoding="utf-8") as file:
        page = file.read().split("## The folder")[0]
    commands = [line.removeprefix("$ python3 ").split() for line in page.splitlines() if line.startswith("$ python3 ")]
    assert [command[0] for command in commands] == [
        "-m", "prepare_sparse_label.py", "annotate.py", "label_from_clicks.py", "prepare_nusc_superpixel.py",
        "train_lc_sparse_assop2p_nusc.py", "predict.py",
    ]  # fmt: skip
    for script, *arguments in commands:
        if script in ("annotate.py", "prepare_nusc_superpixel.py"):  # clicks are simulated; no cameras
            continue
        if script == "-m":
            script, arguments = "core.inspection", [*arguments[1:], "--output", str(tmp_path)]
        arguments = [
            a.replace("runs/own", str(tmp_path / "run")).replace("configs/", f"{ROOT}/configs/") for a in arguments
        ]
        lines = run_script(script.removesuffix(".py"), *arguments, *words)
        if script == "core.inspection":
            assert any("clouds: 3 clouds in" in line for line in lines) and any("column intensity" in x for x in lines)
    assert len([name for name in os.listdir(tmp_path / "run/predictions") if name.endswith(".ply")]) == 3
