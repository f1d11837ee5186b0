"""The steps, end to end on a tiny city: without labels, with other numbers of processes, interrupted, configured."""

import glob
import json
import multiprocessing
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import core.training.trainer
from core.datasets.nuscenes import NuScenes
from core.label_files.files import read_pseudo_label, read_weak_label
from core.training.checkpoint import network_state, newest_checkpoint, read_checkpoint
from tests.entry import (
    ASSOP2P,
    CONFIGS,
    ESTEP,
    ESTEP_2,
    MSTEP,
    PRESEG,
    PRETRAIN,
    contents,
    refusal,
    run_script,
    shell,
)

IT1, IT2 = f"{CONFIGS}/estep/it1.yaml", f"{CONFIGS}/estep/it2.yaml"
MSTEP_1, MSTEP_2 = f"{CONFIGS}/mstep/assop2p.yaml", f"{CONFIGS}/mstep/assop2p_it2.yaml"
BEST = "checkpoints/max-iou-vox-val.pt"


def scalars(run):
    with open(run / "scalars.jsonl") as file:
        return [json.loads(line) for line in file]


def scores(run):
    with open(run / "results.json") as file:
        return json.load(file)[-1]["scores"]


@pytest.fixture
def no_gpu(monkeypatch):
    """Without a GPU results are equal to the last bit."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


# ---- labels that are and are not there ------------------------------------------------------------------------------


def all_steps(run, words):
    """The five numbered commands in this process; what they logged."""
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *words)
    lines += run_script(ESTEP, IT1, "--run-dir", run, "--weight-path", run / BEST, *words)
    lines += run_script(MSTEP, MSTEP_1, "--run-dir", run, *words)
    best = run / "checkpoints_mstep_0/max-iou-vox-val.pt"
    lines += run_script(ESTEP_2, IT2, "--run-dir", run, "--weight-path", best, *words)
    return lines + run_script(MSTEP, MSTEP_2, "--run-dir", run, *words)


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
    lines = run_script(ESTEP, IT1, "--run-dir", run, "--weight-path", run / BEST, *words)
    assert any("No dense labels at hand" in line for line in lines)
    assert len(glob.glob(f"{run}/pseudo_labels_0/*.npz")) == 4


def test_steps_run_with_no_dense_labels_at_all(own, tmp_path):
    """Without validation labels nothing is validated, and the newest state stands in for the best."""
    shutil.rmtree(f"{own.root}/lidarseg")
    run = tmp_path / "run"
    lines = all_steps(run, own.words())
    assert sum("No dense labels at hand" in line for line in lines) == 2
    for folder in ("checkpoints", "checkpoints_mstep_0", "checkpoints_mstep_1"):
        newest = network_state(read_checkpoint(str(newest_checkpoint(str(run / folder)))))
        for head in ("vox", "pix"):
            kept = network_state(read_checkpoint(str(run / folder / f"max-iou-{head}-val.pt")))
            assert all(torch.equal(kept[name], newest[name]) for name in newest)
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == 3 and all("valid" in line and "label" in line for line in warnings)  # one a training
    assert not any(name.startswith("iou/") for line in scalars(run) for name in line)


def test_pseudo_labels_are_those_of_the_rules(prepared, trained, tmp_path):
    """Round 1 labels points of components with several candidates; round 2 keeps those that are not annotated."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    run_script(ESTEP_2, IT2, "--run-dir", run, "--weight-path", run / BEST, *prepared.words())
    labelled = np.zeros(2, int)
    for path in glob.glob(f"{prepared.weak}/*.npz"):
        token = os.path.basename(path).removesuffix(".npz")
        weak = read_weak_label(prepared.weak, token)
        first, second = (read_pseudo_label(str(run / f"pseudo_labels_{k}"), token) for k in (0, 1))
        candidates = weak.point_candidates()
        assert not first[candidates == 0].any()
        assert (candidates[first > 0] >> first[first > 0] & 1).all()
        assert not second[(weak.sparse > 0) | (weak.propagated > 0)].any()
        kept = (first > 0) & (weak.sparse == 0)
        np.testing.assert_array_equal(second[kept], first[kept])
        labelled += np.count_nonzero(kept), np.count_nonzero(second)
    assert 0 < labelled[0] <= labelled[1]


# ---- the same for any number of processes ---------------------------------------------------------------------------


def test_scores_are_the_same_for_two_processes(prepared, trained, tmp_path, no_gpu):
    words = ["--weight-path", trained / BEST, "--split", "train", *prepared.words()]
    run_script("eval_miou", ASSOP2P, "--run-dir", tmp_path / "one", *words)
    typed = " ".join(map(str, words))
    shell(f"torchpack dist-run -np 2 python3 eval_miou.py {ASSOP2P} --run-dir {tmp_path}/two {typed}")
    assert scores(tmp_path / "one") == scores(tmp_path / "two")


def test_non_dist_is_one_process_whatever_started_it(prepared, trained, tmp_path):
    words = " ".join(prepared.words())
    line = f"python3 eval_miou.py {ASSOP2P} --weight-path {trained / BEST} --non-dist --run-dir {tmp_path} {words}"
    shell(line, MASTER_HOST="localhost:1", OMPI_COMM_WORLD_SIZE="2")
    with open(tmp_path / "results.json") as file:
        row = json.load(file)[0]
    assert row["environment"]["processes"] == 1 and row["frames"] == 2


# ---- going on -------------------------------------------------------------------------------------------------------


def test_a_finished_training_says_so_and_stops(prepared, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = contents(run / "checkpoints")
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *prepared.words())
    assert any("Finished already" in line for line in lines) and not any("Epoch" in line for line in lines)
    assert contents(run / "checkpoints") == before


def test_more_epochs_go_on_from_a_finished_training(prepared, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", run, *prepared.words(num_epochs=2))
    assert any("Going on from" in line and "step-4.pt, epoch 1 of 2" in line for line in lines)
    assert [line["step"] for line in scalars(run) if "loss/total" in line] == list(range(1, 9))
    assert str(newest_checkpoint(str(run / "checkpoints"))).endswith("step-8.pt")


def test_an_interrupted_training_ends_as_one_that_was_not(prepared, tmp_path, no_gpu, monkeypatch):
    """Interrupted in the second epoch; samples, schedule, optimiser and best scores go on as they were."""
    words = prepared.words(num_epochs=2, model__dropout=0.0)
    run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "whole", *words)
    step = core.training.trainer.SegmentationTrainer._run_step

    def interrupted(trainer, batch):
        if trainer.global_step == 6:
            raise KeyboardInterrupt
        return step(trainer, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(core.training.trainer.SegmentationTrainer, "_run_step", interrupted)
        run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "broken", *words)
    assert str(newest_checkpoint(str(tmp_path / "broken/checkpoints"))).endswith("step-4.pt")
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", tmp_path / "broken", *words)
    assert any("step-4.pt, epoch 1 of 2" in line for line in lines)
    for name in ("step-8.pt", "max-iou-vox-val.pt", "max-iou-pix-val.pt"):
        whole, broken = (read_checkpoint(str(tmp_path / run / "checkpoints" / name)) for run in ("whole", "broken"))
        for key, value in network_state(whole).items():
            torch.testing.assert_close(network_state(broken)[key], value)
        assert (whole["epoch_num"], whole["global_step"]) == (broken["epoch_num"], broken["global_step"])
        assert whole["scheduler"]["last_epoch"] == broken["scheduler"]["last_epoch"]


def test_weight_path_restores_a_whole_checkpoint(prepared, trained, tmp_path):
    checkpoint = trained / "checkpoints/step-4.pt"
    words = ["--run-dir", tmp_path, "--weight-path", checkpoint, *prepared.words(num_epochs=2)]
    lines = run_script(PRETRAIN, ASSOP2P, *words)
    assert any("Going on from" in line and "epoch 1 of 2" in line for line in lines)
    assert str(newest_checkpoint(str(tmp_path / "checkpoints"))).endswith("step-8.pt")


def test_weight_path_that_has_nothing_to_do_is_told(prepared, trained, tmp_path):
    checkpoint = trained / "checkpoints/step-4.pt"
    line = refusal(PRETRAIN, ASSOP2P, "--run-dir", tmp_path, "--weight-path", checkpoint, *prepared.words())
    assert f"{checkpoint}: of epoch 1 of 1, so that nothing is left to train; raise num_epochs" in line
    lines = run_script(PRETRAIN, ASSOP2P, "--run-dir", trained, "--weight-path", checkpoint, *prepared.words())
    assert any(line.startswith("WARNING --weight-path") and "not read" in line for line in lines)
    assert any("Finished already" in line for line in lines)


# ---- loader processes -----------------------------------------------------------------------------------------------


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


def trains(project, run, config=ASSOP2P, **changes):
    """Trains one epoch in this process and scores it; the loss terms of the last step."""
    words = project.words(**changes)
    run_script(PRETRAIN, config, "--run-dir", run, *words)
    run_script("eval_miou", config, "--weight-path", run / BEST, *words)
    found = scores(run)
    assert set(found) == {"vox/in_view", "pix/in_view", "vox/all"}
    assert all(0 <= row["miou"] <= 100 for row in found.values())
    last = [line for line in scalars(run) if "loss/total" in line][-1]
    return {name for name in last if name.startswith("loss/")}


WEAK_TERMS = {f"loss/{term}/{head}" for term in ("sparse", "propagated", "negative") for head in ("vox", "pix")}


def test_the_sparse_baseline_trains(prepared, tmp_path):
    shutil.copytree(prepared.weak, tmp_path / "weak")
    config = f"{CONFIGS}/pretrain/sparse_baseline.yaml"
    terms = trains(prepared, tmp_path / "run", config, dataset__superpixel=tmp_path / "none")  # it needs no superpixels
    assert terms == WEAK_TERMS | {"loss/total"}


def test_full_supervision_trains(prepared, tmp_path):
    config = f"{CONFIGS}/pretrain/full.yaml"
    without = {"dataset__superpixel": tmp_path / "none", "dataset__sparse_label_path": tmp_path / "none"}
    assert trains(prepared, tmp_path / "run", config, **without) == {"loss/dense/vox", "loss/dense/pix", "loss/total"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"amp_enabled": "true", "amp_dtype": "bfloat16"}, id="bfloat16"),
        pytest.param({"dataset__points": "all"}, id="all points"),
        pytest.param(
            {"dataset__use_color": "true", "model__in_channel": 7, "dataset__use_augment": "true"}, id="color"
        ),
        pytest.param({"optimizer__name": "adamw", "scheduler__name": "constant", "optimizer__lr": 0.001}, id="adamw"),
        pytest.param({"dataset__pts_sr": 0.5, "batch_size": 2, "train__deterministic": "true"}, id="half"),
    ],
)
def test_variants_train(prepared, tmp_path, changes):
    terms = trains(prepared, tmp_path, **changes)
    torch.use_deterministic_algorithms(False)
    assert terms == WEAK_TERMS | {"loss/walker", "loss/visit", "loss/total"}


def test_superpixels_are_of_the_training_size(prepared):
    with np.load(glob.glob(f"{prepared.seeds}/*.npz")[0]) as archive:
        assert json.loads(archive["header.json"])["size"] == [36, 64]


def test_part_of_a_data_set_with_points_that_are_no_numbers(own, trained, tmp_path):
    """An image of one frame is missing, a scan has points that are none: labels, training, unscored predictions."""
    more = {"dataset.frames": "available", "dataset.invalid_points": "drop"}
    project = replace(own, more=more, weak=str(tmp_path / "weak labels"))
    with open(f"{own.weak}/meta.json") as file:
        assert json.load(file)["statistics"]["frames"] == 4
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
    words = [
        "--weight-path",
        trained / BEST,
        "--split",
        "train",
        "--save-predictions",
        tmp_path / "out",
        "--confidences",
    ]
    lines = run_script("eval_miou", ASSOP2P, *words, *project.words())
    assert any("Predictions are not scored" in line for line in lines)
    labels, confidence = (
        np.fromfile(tmp_path / f"out/{tokens[0]}.{name}", kind)
        for name, kind in (("bin", np.uint8), ("confidence.bin", np.float16))
    )
    assert len(labels) == len(confidence) == len(points)
    assert not labels[nowhere].any() and not confidence[nowhere].any() and (np.delete(confidence, nowhere) > 0).all()
