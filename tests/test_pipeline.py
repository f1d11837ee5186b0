"""The steps, end to end on a tiny city: without labels, started anyhow, configured otherwise.

All five numbered commands run in `test_light_imports`, by two processes in `test_launchers_agree`, interrupted in
`test_resume`.
"""

import glob
import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

import core.training.trainer
from core.datasets.nuscenes import NuScenes
from core.label_files.files import read_weak_label
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, PRESEG, PRETRAIN, contents, refusal, run_script


def scalars(run):
    with open(run / "scalars.jsonl") as file:
        return [json.loads(line) for line in file]


def test_training_opens_no_dense_label_of_a_training_frame(own, tmp_path):
    """Only the validation frames' labels are left."""
    with open(f"{own.root}/v1.0-trainval/lidarseg.json") as file:
        labels = {row["sample_data_token"]: row["filename"] for row in json.load(file)}
    tokens = [name.removesuffix(".npz") for name in os.listdir(own.weak) if name.endswith(".npz")]
    for token in tokens:
        os.remove(f"{own.root}/{labels[token]}")
    assert len(tokens) == 4 and len(labels) == 6
    run, words = tmp_path / "run", own.words()
    run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *words)
    assert any("iou/vox/val" in line for line in scalars(run))
    estep = [f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", run / BEST]
    assert any("No dense labels at hand" in line for line in run_script(ESTEP, *estep, *words))
    assert len(glob.glob(f"{run}/pseudo_labels_0/*.npz")) == 4


def test_non_dist_is_one_process_whatever_started_it(prepared, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_HOST", "localhost:1")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    words = ["--weight-path", trained / BEST, "--non-dist", "--run-dir", tmp_path]
    run_script("eval_miou", ASSOP2P, *words, *prepared.words())
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row["environment"]["processes"] == 1 and row["frames"] == 2


def test_weight_path_that_has_nothing_to_do_is_told(prepared, trained, tmp_path):
    checkpoint = trained / "checkpoints/step-4.pt"
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, "--weight-path", checkpoint, *prepared.words())
    assert f"{checkpoint}: of epoch 1 of 1, so that nothing is left to train; raise num_epochs" in line
    before = contents(trained / "checkpoints")
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", trained, "--weight-path", checkpoint, *prepared.words())
    assert any(line.startswith("WARNING --weight-path") and "not read" in line for line in lines)
    assert any("Finished already" in line for line in lines) and contents(trained / "checkpoints") == before


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


# ---- configurations -------------------------------------------------------------------------------------------------

HEADS = ("vox", "pix")
WEAK = {f"{term}/{head}" for term in ("sparse", "propagated", "negative") for head in HEADS}
COLOR = {"dataset__use_color": "true", "model__in_channel": 7, "dataset__use_augment": "true"}
ADAMW = {"optimizer__name": "adamw", "scheduler__name": "constant", "optimizer__lr": 0.001}
NO_LABELS = {"dataset__superpixel": "/none", "dataset__sparse_label_path": "/none"}


@pytest.mark.parametrize(
    ("config", "changes", "terms"),
    [
        ("sparse_baseline", {"dataset__superpixel": "/none"}, WEAK),
        ("full", NO_LABELS, {f"dense/{head}" for head in HEADS}),
        ("assop2p", {"amp_enabled": "true", "dataset__points": "all"}, WEAK | {"walker", "visit"}),
        ("assop2p", {**COLOR, **ADAMW}, WEAK | {"walker", "visit"}),
        (
            "assop2p",
            {"dataset__pts_sr": 0.5, "batch_size": 2, "train__deterministic": "true"},
            WEAK | {"walker", "visit"},
        ),
    ],
    ids=["sparse labels alone", "full supervision", "bfloat16, all points", "color, adamw", "half, deterministic"],
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


def test_part_of_a_data_set_with_points_that_are_no_numbers(own, trained, tmp_path):
    """An image of one frame is missing, a scan has points that are none: labels, training, unscored predictions."""
    more = {"dataset.frames": "available", "dataset.invalid_points": "drop"}
    project = replace(own, more=more, weak=str(tmp_path / "weak labels"))
    reader = NuScenes(own.root, "v1.0-trainval", "train", own.index)
    os.remove(reader.frame(0).cameras[2].image_path)
    path = reader.frame(1).lidar_path
    points = np.fromfile(path, np.float32).reshape(-1, 5)
    nowhere = np.flatnonzero(np.arange(len(points)) % 7 == 0)
    points[nowhere, 0] = np.nan
    points.tofile(path)
    run_script("prepare_sparse_label", PRESEG, *project.words())
    tokens = reader.tokens()[1:]
    assert contents(project.weak).keys() == {"meta.json", *(f"{token}.npz" for token in tokens)}
    assert (read_weak_label(project.weak, tokens[0]).component[nowhere] == -1).all()
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "run", *project.words())
    assert any("3 of 4 key frames of split 'train'" in line for line in lines)
    assert any("3 training frames, 2 validation frames" in line for line in lines)
    shutil.rmtree(f"{own.root}/lidarseg")
    words = ["--weight-path", trained / BEST, "--split", "train", "--save-predictions", tmp_path / "out"]
    lines = run_script("eval_miou", ASSOP2P, *words, "--confidences", *project.words())
    assert any("Predictions are not scored" in line for line in lines)
    labels = np.fromfile(tmp_path / f"out/{tokens[0]}.bin", np.uint8)
    confidence = np.fromfile(tmp_path / f"out/{tokens[0]}.confidence.bin", np.float16)
    assert len(labels) == len(confidence) == len(points)
    assert not labels[nowhere].any() and not confidence[nowhere].any() and (np.delete(confidence, nowhere) > 0).all()
