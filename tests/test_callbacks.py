"""Resuming, validation, learning rates, and the files that training leaves."""

import math
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchpack.callbacks import Callback, LambdaCallback

from core.datasets.nuscenes import CLASSES
from core.errors import UserError
from core.loader.collate import collate
from core.losses import LossWeights
from core.scores.metrics import confusion_matrix, mean_iou
from core.training.callbacks import BestSaver, Validation
from core.training.checkpoint import load_weights, read_checkpoint
from core.training.resume import CheckpointSaver, Resume, find_checkpoint
from core.training.schedulers import cosine_warmup
from core.training.trainer import SegmentationTrainer
from tests import made_up

CPU = torch.device("cpu")


def make_trainer(seed=0, dropout=0.0, ramp=0):
    network = made_up.SmallNetwork(seed, dropout)
    torch.manual_seed(0)  # as every start of the command does
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
    return SegmentationTrainer(network, LossWeights(ramp=ramp), optimizer, lambda k: 1 / (k + 1), CPU, log_every=1)


def train(folder, num_epochs, callbacks=(), path=None, stop_after=None, **network):
    """Trains from the folder's newest checkpoint on two made-up frames; returns the trainer."""
    trainer = make_trainer(**network)
    saver = CheckpointSaver(str(folder), 2)
    stop = LambdaCallback(trigger_epoch=lambda _: _stop(trainer, stop_after))
    newest = find_checkpoint(str(folder))
    resume = Resume(newest[0] if newest else path)
    trainer.train(made_up.loader(), num_epochs=num_epochs, callbacks=[resume, *callbacks, saver, stop])
    return trainer


def _stop(trainer, after):
    from torchpack.train.exception import StopTraining

    if trainer.epoch_num == after:
        raise StopTraining("the test")


def assert_same(a, b):
    """The same network, optimiser and schedule, bit for bit."""
    for (name, ours), theirs in zip(a.network.state_dict().items(), b.network.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    ours, theirs = (trainer.optimizer.state_dict()["state"] for trainer in (a, b))
    assert all(torch.equal(ours[key]["momentum_buffer"], theirs[key]["momentum_buffer"]) for key in ours)
    assert a.scheduler.state_dict() == b.scheduler.state_dict()
    assert (a.epoch_num, a.global_step) == (b.epoch_num, b.global_step)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"ramp": 3}], ids=["plain", "dropout", "ramp"])
def test_resumed_training_ends_where_uninterrupted_training_does(tmp_path, options):
    """Sample order, augmentation (both follow the epoch), dropout and ramp go on as if never stopped."""
    whole = train(tmp_path / "whole", 2, **options)
    first = train(tmp_path / "parts", 2, stop_after=1, **options)
    assert first.epoch_num == 1
    second = train(tmp_path / "parts", 2, seed=5, **options)
    assert_same(second, whole)


def test_resume_from_a_given_checkpoint(tmp_path):
    """The given checkpoint serves until the folder has one of its own."""
    train(tmp_path / "a", 1)
    given = str(tmp_path / "a/step-2.pt")
    with pytest.raises(UserError, match=r"step-2\.pt: of epoch 1 of 1, so that nothing is left to train"):
        train(tmp_path / "b", 1, seed=1, path=given)
    second = train(tmp_path / "b", 2, seed=1, path=given)
    assert_same(second, train(tmp_path / "c", 2))
    assert sorted(os.listdir(tmp_path / "b")) == ["step-4.pt"]
    assert train(tmp_path / "b", 3, seed=2, path=given).global_step == 6


def test_newest_checkpoints_are_kept(tmp_path):
    """Older ones go after a resume, too."""
    train(tmp_path, 4, stop_after=2)
    assert sorted(os.listdir(tmp_path)) == ["step-2.pt", "step-4.pt"]
    train(tmp_path, 4)
    assert sorted(os.listdir(tmp_path)) == ["step-6.pt", "step-8.pt"]
    content = read_checkpoint(str(tmp_path / "step-8.pt"))
    assert (content["epoch_num"], content["global_step"], content["local_step"]) == (4, 8, 2)
    assert set(content) >= {"model", "optimizer", "scheduler", "scaler", "callbacks"}
    load_weights(made_up.SmallNetwork(3), str(tmp_path / "step-8.pt"))


class Scores(Callback):
    """Plays the validation: a score of the point head in each epoch, None where there is no validation."""

    def __init__(self, scores):
        self.scores = scores

    def _trigger_epoch(self):
        score = self.scores[self.trainer.epoch_num - 1]
        if score is not None:
            self.trainer.summary.add_scalar("iou/vox/val", score)


def epoch_of(path):
    return read_checkpoint(str(path))["epoch_num"]


@pytest.mark.parametrize(
    ("scores", "best"),
    [([50.0, 60.0, 55.0], 2), ([50.0, None, 40.0], 1), ([None, None, 1.0], 3)],
)
def test_best_checkpoint(tmp_path, scores, best):
    train(tmp_path, 3, callbacks=[Scores(scores), BestSaver(str(tmp_path), "vox")])
    assert epoch_of(tmp_path / "max-iou-vox-val.pt") == best
    assert not (tmp_path / "max-iou-pix-val.pt").exists()


def test_best_score_is_remembered_over_a_resume(tmp_path):
    scores = [Scores([60.0, 50.0, 70.0])]
    train(tmp_path, 3, callbacks=[*scores, BestSaver(str(tmp_path), "vox")], stop_after=1)
    train(tmp_path, 3, callbacks=[*scores, BestSaver(str(tmp_path), "vox")], stop_after=2)
    assert epoch_of(tmp_path / "max-iou-vox-val.pt") == 1
    train(tmp_path, 3, callbacks=[*scores, BestSaver(str(tmp_path), "vox")])
    assert epoch_of(tmp_path / "max-iou-vox-val.pt") == 3


def validation_loader():
    """Two frames, as the validation gets them."""
    data: Any = made_up.MadeUpData()
    return DataLoader(data, 2, sampler=[(0, 0), (0, 1)], collate_fn=collate)


def test_validation(tmp_path):
    """Both heads' mean IoU and the point head's per-class IoUs, every second epoch and after the last."""
    loader = validation_loader()
    trainer, folder = make_trainer(), str(tmp_path)
    batch = next(iter(loader))
    labels = batch.dense_label.numpy()
    answer = made_up.certain_outputs(np.where(labels == 3, 4, labels), np.where(labels == 5, 0, labels))
    trainer.evaluation_step = lambda _: answer
    trainer.train(
        made_up.loader(),
        num_epochs=3,
        callbacks=[Validation(loader, CLASSES.names, 2), BestSaver(folder, "vox"), BestSaver(folder, "pix")],
    )
    summary = trainer.summary
    assert [step for step, _ in summary["iou/vox/val"]] == [4, 6]  # epochs 2 and 3, two steps each
    vox, pix = (confusion_matrix(labels, head.argmax(1).numpy(), 17) for head in (answer.x_vox, answer.x_pix))
    assert summary["iou/vox/val"][-1][1] == pytest.approx(100 * mean_iou(vox))
    assert summary["iou/pix/val"][-1][1] == pytest.approx(100 * mean_iou(pix))
    assert mean_iou(pix) == pytest.approx(0.9)  # one of ten classes is missed
    assert summary[f"iou/vox/val/{CLASSES.names[3]}"][-1][1] == 0
    assert summary[f"iou/vox/val/{CLASSES.names[1]}"][-1][1] == 100
    assert f"iou/vox/val/{CLASSES.names[16]}" not in summary  # no such point in the split
    assert epoch_of(tmp_path / "max-iou-vox-val.pt") == epoch_of(tmp_path / "max-iou-pix-val.pt") == 2


def test_one_process_has_no_warmup():
    factor = cosine_warmup(num_epochs=2, num_frames=10, batch_size=4, processes=1)  # T = 2 * 3
    expected = [0.5 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert [factor(k) for k in range(6)] == pytest.approx(expected)
    assert factor(0) == 1.0 and factor(3) == pytest.approx(0.5) and factor(6) == pytest.approx(0.0)


def test_one_process_warms_up_where_it_is_asked_to():
    for iterations in (4, 1000):  # at most an eighth of 11 * 3
        factor = cosine_warmup(11, 10, 4, processes=1, warmup_iterations=iterations, warmup_one_process=True)
        assert [factor(k) for k in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    several = [cosine_warmup(2, 10, 4, 2, 4, given)(k) for given in (False, True) for k in range(4)]
    assert several[:4] == several[4:]


def test_several_processes_warm_up():
    factor = cosine_warmup(num_epochs=25, num_frames=28130, batch_size=4, processes=3)
    iterations = 25 * 2345  # ceil(28130 / 12) = 2345
    assert [factor(k) for k in (0, 1, 332)] == pytest.approx([1 / 333, 2 / 333, 1.0])
    assert factor(333) == 1.0  # W = 1000 // 3: the cosine starts where the warm-up ends
    assert factor(334) == pytest.approx(0.5 * (1 + math.cos(math.pi / iterations)))
    assert factor(333 + iterations // 2) == pytest.approx(0.5, abs=1e-4)
    # the last iteration is W before the cosine's end
    assert factor(iterations - 1) == pytest.approx(0.5 * (1 + math.cos(math.pi * (iterations - 334) / iterations)))
