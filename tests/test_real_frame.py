"""The method on a real nuScenes key frame with the unchanged nuScenes configuration, on a CPU.

With images of 360 x 640 pixels a training step takes 20 to 30 s on one core. So the network runs here with images of
90 x 160, everything else unchanged, and at full size with IUPC_FULL_SIZE=1 in the environment (three minutes).
"""

import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchpack.callbacks import Callback

from core import builder
from core.label_files.files import read_pseudo_label, read_weak_label
from core.running.config import load_config
from core.scores.results import SCOPES
from core.training.checkpoint import save_checkpoint
from core.training.trainer import SegmentationTrainer
from tests.entry import ASSOP2P, CONFIGS, ESTEP, PRESEG, ROOT, logged, overrides, run_script

DATA = os.path.join(os.path.dirname(ROOT), "shared", "data", "nuscenes_keyframe")
FULL_SIZE = os.environ.get("IUPC_FULL_SIZE") == "1"
RATE = 0.4 if FULL_SIZE else 0.1
NUM_POINTS = 34688
pytestmark = pytest.mark.skipif(not os.path.isdir(DATA), reason="needs ../shared/data/nuscenes_keyframe")


class Losses(Callback):
    """Keeps the loss terms of every step."""

    def _before_train(self):
        self.steps = []

    def _after_step(self, output_dict):
        self.steps.append(output_dict)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Weak labels and superpixels by the entry scripts; only places, and what one frame needs, overridden."""
    folder = tmp_path_factory.mktemp("real")
    keys = {
        "dataset.root": DATA,
        "dataset.version": "v1.0-mini",
        "dataset.index_path": folder / "index",
        "dataset.sparse_label_path": folder / "weak",
        "dataset.superpixel": folder / "seeds",
        "model.imagenet_pretrain": "null",
        "batch_size": 1,
        "workers_per_gpu": 0,
    }
    run_script("prepare_sparse_label", PRESEG, *overrides(keys))
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *overrides(keys))
    return SimpleNamespace(folder=folder, keys=keys)


@pytest.fixture(scope="module")
def trained(frame):
    """Three training steps: the words of later commands, the losses and the checkpoint."""
    keys = frame.keys
    if not FULL_SIZE:
        keys = {**keys, "dataset.image_crop_rate": RATE, "dataset.superpixel": frame.folder / "small_seeds"}
        run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *overrides(keys))
    config = load_config(ASSOP2P, overrides=overrides(keys))
    device = torch.device("cpu")
    torch.manual_seed(0)
    data = builder.make_dataset(config, builder.make_reader(config, "train"), "train")
    network = builder.make_model(config, device)
    trainer = SegmentationTrainer(
        network,
        builder.make_loss_weights(config),
        builder.make_optimizer(config, network),
        builder.make_schedule(config, len(data)),
        device,
    )
    losses = Losses()
    with logged():
        trainer.train(builder.make_loader(config, data), num_epochs=3, callbacks=[losses])
    path = frame.folder / "run/checkpoints/step-3.pt"
    save_checkpoint(str(path), trainer.state_dict())
    return SimpleNamespace(words=overrides(keys), losses=losses.steps, path=path, sample=data[0])


def test_three_training_steps(trained):
    assert len(trained.losses) == 3
    names = {f"{term}/{head}" for term in ("sparse", "propagated", "negative") for head in ("vox", "pix")}
    for terms in trained.losses:
        assert set(terms) == names | {"walker", "visit", "total"}
        assert all(math.isfinite(value) and value >= 0 for value in terms.values())
        assert terms["sparse/vox"] > 0 and terms["walker"] > 0
    sample = trained.sample
    assert len(sample) > 10_000 and sample.images.shape == (6, 3, round(900 * RATE), round(1600 * RATE))
    assert np.count_nonzero(sample.sparse_label) > 30
    assert np.count_nonzero(sample.asso_target) > np.count_nonzero(sample.sparse_label)


def test_estep(frame, trained):
    run = frame.folder / "run"
    run_script(ESTEP, f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", trained.path, *trained.words)
    label = read_pseudo_label(str(run / "pseudo_labels_0"), trained.sample.token, NUM_POINTS)
    candidates = read_weak_label(str(frame.folder / "weak"), trained.sample.token).point_candidates()
    assert label.any() and not label[candidates == 0].any()
    among = candidates[label > 0] >> label[label > 0] & 1 == 1
    assert among.mean() > 0.999  # of a voxel on a rim the representative may be of another component than a point


def test_evaluation(frame, trained):
    words = ["--split", "train", "--weight-path", trained.path, "--save-predictions", frame.folder / "predictions"]
    run_script("eval_miou", ASSOP2P, *words, *trained.words)
    with open(frame.folder / "run/results.json") as file:
        (row,) = json.load(file)
    assert (row["split"], row["frames"]) == ("train", 1)
    for scope in SCOPES:
        points = np.array(row["scores"][scope]["confusion"]).sum()
        assert points == NUM_POINTS if scope == "vox/all" else 20_000 < points < NUM_POINTS
    assert os.path.getsize(frame.folder / f"predictions/{trained.sample.token}.bin") == NUM_POINTS
