"""The steps, end to end on a tiny city: configured otherwise, with cameras and without."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import core.training.trainer
from core.label_files.files import read_pseudo_label, read_weak_label
from core.loader.collate import collate
from core.synthetic.generate import City, generate_city
from core.training.trainer import network_inputs
from tests import made_up
from tests.entry import ASSOP2P, BEST, CONFIGS, PRESEG, PRETRAIN, ROOT, Project, all_steps, refusal, run_script


def scalars(run):
    with open(run / "scalars.jsonl") as file:
        return [json.loads(line) for line in file]


def test_loader_processes_of_validation_do_not_live_beside_those_of_training(prepared, tmp_path, monkeypatch):
    alive = {"train": set(), "validate": set()}

    def counted(name, method):
        def call(trainer, batch):
            alive[name].add(len(multiprocessing.active_children()))
            return method(trainer, batch)

        return call

    trainer = core.training.trainer.SegmentationTrainer
    monkeypatch.setattr(trainer, "_run_step", counted("train", trainer._run_step))
    monkeypatch.setattr(trainer, "evaluation_step", counted("validate", trainer.evaluation_step))
    run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, *prepared.words(workers_per_gpu=1, num_epochs=2))
    assert alive == {"train": {1}, "validate": {1}} and not multiprocessing.active_children()


HEADS = ("vox", "pix")
WEAK = {f"{term}/{head}" for term in ("sparse", "propagated", "negative") for head in HEADS}
NO_LABELS = {"dataset__superpixel": "/none", "dataset__sparse_label_path": "/none"}
OTHERS = {
    **{"dataset__use_color": "true", "model__in_channel": 7, "dataset__use_augment": "true", "dataset__points": "all"},
    **{"optimizer__name": "adamw", "scheduler__name": "constant", "optimizer__lr": 0.001, "amp_enabled": "true"},
    **{"dataset__pts_sr": 0.5, "batch_size": 2, "train__deterministic": "true"},
}


@pytest.mark.parametrize(
    ("config", "changes", "terms"),
    [
        ("sparse_baseline", {"dataset__superpixel": "/none"}, WEAK),
        ("full", NO_LABELS, {f"dense/{head}" for head in HEADS}),
        ("assop2p", OTHERS, WEAK | {"walker", "visit"}),
    ],
)
def test_configurations_train(prepared, tmp_path, config, changes, terms):
    """An epoch and its scores, with the label files that the criterion needs and no others; its loss terms."""
    words = [f"{CONFIGS}/pretrain/{config}.yaml", *prepared.words(**changes)]
    run_script(PRETRAIN, *words, "--run-dir", tmp_path)
    run_script("eval_miou", *words, "--weight-path", tmp_path / BEST)
    found = json.loads((tmp_path / "results.json").read_text())[-1]["scores"]
    assert set(found) == {"vox/in_view", "pix/in_view", "vox/all"}
    assert all(0 <= row["miou"] <= 100 for row in found.values())
    last = [line for line in scalars(tmp_path) if "loss/total" in line][-1]
    assert {name.removeprefix("loss/") for name in last if name.startswith("loss/")} == terms | {"total"}


ALONE = {"model.name": "spvcnn"}
OWN = f"{ROOT}/configs/recordings"
SPLITS = {f"dataset.splits.{split}": f'["{split}_*"]' for split in ("train", "val", "test")}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The city as recordings of which only clouds, labels and classes.yaml are left."""
    folder = tmp_path_factory.mktemp("bare")
    sizes = dict(train_scenes=2, val_scenes=1, test_scenes=1, frames=2, azimuth_steps=90, image_size=(90, 160), seed=7)
    generate_city(str(folder / "city"), City(format="recordings", **sizes))
    for name in ("train_000", "train_001", "val_000", "test_000"):
        for part in ("cameras", "calibration.yaml", "poses.txt", "times.txt"):
            path = folder / "city" / name / part
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    more = {**SPLITS, "dataset.annotator": "simulated"}
    names = [str(folder / name) for name in ("city", "index", "weak", "seeds")]
    return Project(*names, more=more)


def test_samples_of_other_numbers_of_images():
    """Batches hold the images of all samples one after the other, and voxels find their own."""
    samples = [made_up.sample(i) for i in range(3)]
    few = samples[1]
    few.camera[:] = np.where(few.camera >= 0, 0, -1)
    samples[1] = replace(few, images=few.images[:1])
    batch = collate(samples)
    assert batch.images.shape == (1, 5, 3, *made_up.IMAGE_SIZE)
    first, begin = [0, 2, 3], 0
    for sample, start in zip(samples, first, strict=True):
        index = batch.image_index[begin : begin + len(sample)].numpy()
        np.testing.assert_array_equal(index, np.where(sample.camera >= 0, start + sample.camera, -1))
        np.testing.assert_array_equal(batch.images[0, start : start + len(sample.images)], sample.images)
        begin += len(sample)
    outputs = made_up.network()(**network_inputs(batch.to("cpu")))
    assert torch.isfinite(outputs.x_pix).all()


def test_all_steps_on_data_with_cameras(prepared, tmp_path):
    """All points are labelled and learn; no image is opened."""
    project = replace(
        prepared, weak=str(tmp_path / "weak"), seeds="/nowhere", more={**ALONE, "dataset.annotate": "all"}
    )
    run_script("prepare_sparse_label", PRESEG, *project.words())
    run, words = tmp_path / "run", project.words()
    all_steps(CONFIGS, run, words, rounds=1)
    later = run / "checkpoints_mstep_0/max-iou-vox-val.pt"
    run_script("eval_miou", ASSOP2P, "--weight-path", later, *words)
    with open(run / "results.json") as file:
        row = json.load(file)[0]
    assert list(row["scores"]) == ["vox/in_view", "vox/all"] and row["points"] == "all"

    token = sorted(os.listdir(project.weak))[0].removesuffix(".npz")
    everywhere, in_view = (read_weak_label(folder, token) for folder in (project.weak, prepared.weak))
    assert (everywhere.component >= 0).sum() > (in_view.component >= 0).sum()
    pseudo = read_pseudo_label(str(run / "pseudo_labels_0"), token)
    unseen = (everywhere.component >= 0) & (in_view.component < 0)
    assert pseudo[unseen].any() or everywhere.propagated[unseen].any()

    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "other", *replace(project, more=ALONE).words())
    assert "made with parameters.annotate = all, the configuration says in_view" in line
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "other", *prepared.words(dataset__annotate="all"))
    assert "made with parameters.annotate = in_view, the configuration says all" in line


def test_all_steps_on_clouds_alone(bare, tmp_path):
    run, words = tmp_path / "run", bare.words()
    run_script("prepare_sparse_label", f"{OWN}/pretrain/preseg.yaml", *words)
    lines = all_steps(OWN, run, words)
    assert any("model.name auto: spvcnn, since there are no cameras" in line for line in lines)
    later = run / "checkpoints_mstep_1/max-iou-vox-val.pt"
    predictions = ["--save-predictions", tmp_path / "predictions"]
    run_script("eval_miou", f"{OWN}/pretrain/assop2p.yaml", "--weight-path", later, *predictions, *words)
    with open(run / "results.json") as file:
        assert list(json.load(file)[0]["scores"]) == ["vox/all"]
    figures = ["--run-dir", run, "--predictions", tmp_path / "predictions"]
    lines = run_script("core.figures.__main__", f"{OWN}/pretrain/assop2p.yaml", *figures, *words)
    assert {"confusion_matrix.png", "pseudo_labels.png", "results.png"} <= set(os.listdir(run / "figures"))
