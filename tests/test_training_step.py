"""The training step and the training loop, on made-up samples and the real network, narrow."""

import dataclasses
import gc
import json
import math
import weakref

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchpack.callbacks import LambdaCallback

from benchmarks.operations import count
from core.loader.collate import collate
from core.losses import LossWeights, loss_terms
from core.sparse import Coordinates, RowMap, SparseTensor
from core.sparse.kernel_map import KernelMap
from core.training.callbacks import ScalarsWriter
from core.training.trainer import SegmentationTrainer, TrainingError, network_inputs, targets_of
from tests import made_up
from tests.helpers import DEVICES

PRETRAINING = LossWeights()
MSTEP = LossWeights(pseudo=1.0, temperature=1.0)
BASELINE = LossWeights(association=0.0)
FULL = LossWeights(sparse=0, propagated=0, negative=0, dense=1, association=0)
BOTH = {"vox", "pix"}
ASSOCIATION = {"walker", "visit", "total"}


def make_trainer(device="cpu", weights=PRETRAINING, rate=0.02, schedule=lambda k: 1.0, **options):
    network = made_up.network().to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, nesterov=True)
    options = {"log_every": 1, **options}
    return SegmentationTrainer(network, weights, optimizer, schedule, torch.device(device), **options)


def train(trainer, samples, epochs=1, batch_size=2, callbacks=()):
    """Trains on the samples; returns the loss terms of each step."""
    steps = []
    loader = DataLoader(samples, batch_size, collate_fn=collate)
    recorder = LambdaCallback(after_step=lambda _, values: steps.append(values))
    trainer.train(loader, num_epochs=epochs, callbacks=[recorder, *callbacks])
    return steps


SAMPLES = [made_up.sample(0), made_up.sample(1)]


def names_of(*labels):
    return {f"{label}/{head}" for label in labels for head in BOTH}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (PRETRAINING, names_of("sparse", "propagated", "negative") | ASSOCIATION),
        (MSTEP, names_of("sparse", "propagated", "negative", "pseudo") | ASSOCIATION),
        (BASELINE, names_of("sparse", "propagated", "negative") | {"total"}),
        (FULL, names_of("dense") | {"total"}),
    ],
    ids=["pretraining", "mstep", "baseline", "full"],
)
def test_loss_falls(device, weights, names):
    trainer = make_trainer(device, weights)
    steps = train(trainer, SAMPLES, epochs=6)
    assert len(steps) == 6 and set(steps[0]) == names
    if weights in (PRETRAINING, MSTEP):
        plain = sum(value for name, value in steps[0].items() if "/" in name)
        total = plain + 0.5 * (steps[0]["walker"] + 0.5 * steps[0]["visit"])
        assert steps[0]["total"] == pytest.approx(total, rel=1e-5)
    assert steps[-1]["total"] < 0.8 * steps[0]["total"]
    assert all(math.isfinite(value) for step in steps for value in step.values())
    counts = [int(x) for name, x in trainer.network.state_dict().items() if name.endswith("num_batches_tracked")]
    assert len(counts) > 50 and set(counts) == {6}


@pytest.mark.parametrize("device", DEVICES)
def test_not_a_number_stops_with_terms_and_frames(device):
    feats = made_up.sample(1).feats.copy()
    feats[3, 0] = np.nan
    trainer = make_trainer(device)
    before = {name: parameter.clone() for name, parameter in trainer.network.named_parameters()}
    with pytest.raises(TrainingError) as error:
        train(trainer, [SAMPLES[0], dataclasses.replace(SAMPLES[1], feats=feats)])
    message = str(error.value)
    assert "step 1, epoch 1" in message and "total=nan" in message and "sparse/vox=nan" in message
    assert "frame-0, frame-1" in message and "optimizer.lr" in message
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.network.named_parameters())


def test_scalars_of_logged_steps(tmp_path):
    """One line per logged step, with every term and the rate that the step was taken at."""
    path, few = tmp_path / "scalars.jsonl", tmp_path / "few.jsonl"
    trainer = make_trainer(schedule=lambda k: 1 / (k + 1))
    steps = train(trainer, SAMPLES, epochs=2, batch_size=1, callbacks=[ScalarsWriter(str(path), "train")])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["stage"], line["epoch"], line["step"]) for line in lines] == [
        ("train", 1 + k // 2, k + 1) for k in range(4)
    ]
    assert [line["lr"] for line in lines] == pytest.approx([0.02 / (k + 1) for k in range(4)])
    for line, step in zip(lines, steps, strict=True):
        assert {name: line[f"loss/{name}"] for name in step} == step
    train(make_trainer(log_every=2), SAMPLES[:1] * 5, batch_size=1, callbacks=[ScalarsWriter(str(few), "train")])
    assert [json.loads(line)["step"] for line in few.read_text().splitlines()] == [2, 4, 5]


@pytest.mark.parametrize("ramp", [0, 10])
def test_gradient_sizes_are_those_of_the_weighted_terms(ramp):
    trainer, batch = make_trainer(gradients_every=1), made_up.batch()
    trainer.weights = LossWeights(sparse=3.0, propagated=0, negative=0, ramp=ramp)
    outputs = trainer.model(**network_inputs(batch))
    outputs.features.retain_grad()
    values = loss_terms(outputs, targets_of(batch), trainer.weights)
    expected = {"sparse/vox": 3 * values["sparse/vox"], "walker": 0.5 * values["walker"] / max(ramp, 1)}
    for name, value in expected.items():
        outputs.features.grad = None
        value.backward(retain_graph=True)
        expected[name] = outputs.features.grad.norm().item()
    trainer.update(batch)
    for name, size in expected.items():
        assert trainer.gradients[f"point/{name}"] == pytest.approx(size, rel=1e-4), name


@pytest.mark.parametrize("device", DEVICES)
def test_dense_labels_do_not_leak_into_weak_training(device):
    """Other dense labels, the same loss: only the criterion `full` looks at them."""
    other = [dataclasses.replace(sample, dense_label=np.roll(sample.dense_label, 7)) for sample in SAMPLES]
    assert train(make_trainer(device), SAMPLES)[0] == pytest.approx(train(make_trainer(device), other)[0], rel=1e-4)
    assert train(make_trainer(device, FULL), SAMPLES)[0] != train(make_trainer(device, FULL), other)[0]


@pytest.mark.parametrize("device", DEVICES)
def test_no_map_of_a_step_outlives_it(device, monkeypatch):
    """Counting references frees voxel sets and maps: nothing waits for the garbage collector, which is off here."""
    made = []
    for kind in (Coordinates, KernelMap, RowMap, SparseTensor):
        monkeypatch.setattr(kind, "__init__", _remembering(kind.__init__, made))
    trainer, loader = make_trainer(device), DataLoader(SAMPLES, 2, collate_fn=collate)
    gc.disable()
    try:
        for batch in loader:
            trainer.update(batch)
        alive = [reference() for reference in made if reference() is not None]
        assert made and not alive
    finally:
        gc.enable()


def _remembering(init, made):
    def remember(self, *args, **kwargs):
        made.append(weakref.ref(self))
        init(self, *args, **kwargs)

    return remember


def test_a_step_on_a_gpu_waits_for_its_losses_alone():
    """Counted on a CPU that works as on a GPU."""
    trainer, (batch,) = make_trainer(), DataLoader(SAMPLES, 2, collate_fn=collate)
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), lr=0.02, momentum=0.9, fused=True)
    count(trainer, batch)  # constants come to the device once
    counting = count(trainer, batch)
    assert not counting.waits
    assert counting.operations.total() < 1900  # 3 454 when each map and loss asked the GPU for its size
