"""From every shipped configuration to objects."""

import copy
import glob
import math
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from core import builder
from core.errors import UserError
from core.labeling.annotation.parameters import SuperpixelParameters, WeakLabelParameters
from core.labeling.pseudo_labels import PseudoLabelRules
from core.losses import LossWeights
from core.running.config import load_config
from tests.fake_labels import fake_config, write_all_superpixels, write_pseudo_labels, write_weak_labels
from tests.fake_nuscenes import write_fake_nuscenes
from tests.fake_recordings import write_recording
from tests.helpers import DEVICES, HERE

CONFIGS = os.path.join(os.path.dirname(HERE), "configs")
NUSCENES = os.path.join(CONFIGS, "nuscenes")
PRETRAIN = os.path.join(NUSCENES, "pretrain/assop2p.yaml")
CPU = torch.device("cpu")
SIZES = ("--data.num_classes=17", "--model.in_channel=4")  # as the reader of nuScenes fills them in


def shipped():
    """Names of all configurations: without the defaults; overlays of the demo go over their data set's pretraining."""
    paths = sorted(glob.glob(os.path.join(CONFIGS, "**/*.yaml"), recursive=True))
    return [os.path.relpath(path, CONFIGS) for path in paths if os.path.basename(path) != "default.yaml"]


def load(name, root, *overrides):
    path = os.path.join(CONFIGS, name)
    if not name.startswith("demo"):
        return fake_config(path, root, *overrides)
    dataset = os.path.splitext(os.path.basename(name))[0]
    base = os.path.join(CONFIGS, dataset, "pretrain/assop2p.yaml")
    return fake_config(base, root, "--dataset.image_crop_rate=0.5", *overrides, overlays=(path,))


def config_of(name="nuscenes/pretrain/assop2p.yaml", *overrides):
    return load_config(os.path.join(CONFIGS, name), overrides=overrides)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A fake nuScenes; each test writes its labels in a folder of its own."""
    root = tmp_path_factory.mktemp("data")
    write_fake_nuscenes(root / "nuscenes")
    return root


@pytest.fixture
def root(data, tmp_path):
    (tmp_path / "nuscenes").symlink_to(data / "nuscenes")
    (tmp_path / "index_path").symlink_to(data)
    return tmp_path


@pytest.mark.parametrize("name", shipped())
def test_every_configuration_builds(name, root):
    config = load(name, root)
    if config.model.name == "auto":  # left to the data
        for recording in ("train_0", "val_0", "test_0", "002"):
            write_recording(root / "recordings", recording)
        config.dataset.root = str(root / "recordings")
        config.dataset.small_component_class = 0  # has other classes
        builder.make_reader(config, "train")
    config.data.num_classes, config.model.in_channel = 17, 4  # what a reader would fill in
    network = builder.make_model(config, CPU)
    weights = builder.make_loss_weights(config)
    optimizer = builder.make_optimizer(config, network)
    warmup = config.scheduler.warmup_iterations if config.scheduler.warmup_one_process else 0
    assert builder.make_schedule(config, 28130)(warmup) == 1.0
    assert sum(p.numel() for group in optimizer.param_groups for p in group["params"]) == sum(
        p.numel() for p in network.parameters()
    )
    assert (network.projector3d is not None) or not weights.association
    rules = builder.make_rules(config)
    assert rules.keep_previous == (config.step.round > 1)
    builder.weak_label_parameters(config)
    assert builder.amp_dtype(config) is None
    if config.dataset.name == "nuscenes":
        build_datasets(config, root)


def build_datasets(config, root):
    """The data sets of the step that the configuration is for, with the labels that it needs and no others."""
    reader = builder.make_reader(config, "train")
    mode = "estep" if config.step.kind == "estep" else "train"
    weights = builder.make_loss_weights(config)
    if not weights.dense:
        write_weak_labels(config, reader)
    if weights.association and mode == "train":
        write_all_superpixels(config, reader)
    run_dir = str(root / "RUN")
    if config.step.kind == "mstep" or config.step.round == 2:
        write_pseudo_labels(builder.pseudo_label_dir(run_dir, 1 if mode == "estep" else config.step.round), reader)
    dataset = builder.make_dataset(config, reader, mode, run_dir)
    batch = next(iter(builder.make_loader(config, dataset)))
    assert batch.sparse_label.any() == batch.candidates.any() == (not weights.dense)
    assert batch.dense_label.any() == (weights.dense > 0)
    assert batch.pseudo_label.any() == (config.step.kind == "mstep" or config.step.round == 2)
    assert batch.asso_target.any() == (mode == "train" and weights.association > 0)
    assert batch.feats.shape[1] == config.model.in_channel
    assert batch.images.shape[3:] == builder.image_size(config, reader)

    evaluation = builder.make_loader(config, builder.make_dataset(config, builder.make_reader(config, "val"), "eval"))
    batch = next(iter(evaluation))
    assert len(evaluation) == 2 and not (batch.sparse_label.any() or batch.dense_label.any())
    assert batch.points.labelled.all() and batch.points.label.any()


def reader_of_one_frame() -> Any:
    return [SimpleNamespace(cameras=[SimpleNamespace(width=1600, height=900)])]


def test_defaults_are_those_of_the_code():
    config = config_of("nuscenes/default.yaml")
    assert builder.weak_label_parameters(config) == WeakLabelParameters()
    assert builder.superpixel_parameters(config, (360, 640)) == SuperpixelParameters()
    assert builder.make_rules(config) == PseudoLabelRules(tuple(range(1, 11)))
    assert builder.make_loss_weights(config) == LossWeights()


def test_numbers_of_the_paper():
    """Of both rounds of E- and M-step, of the baselines, and where their files lie."""
    rules = [builder.make_rules(config_of(f"nuscenes/estep/it{i}.yaml")) for i in (1, 2)]
    assert rules[0] == PseudoLabelRules(tuple(range(1, 11)), 0.5, 0.4, 0.1, True, False, False)
    assert rules[1] == PseudoLabelRules(tuple(range(1, 14)), 0.5, 0.4, 0.1, False, True, True)
    weights = {
        "mstep/assop2p": LossWeights(pseudo=1.0, temperature=1.0),
        "mstep/assop2p_it2": LossWeights(pseudo=1.0, temperature=1.0),
        "pretrain/full": LossWeights(sparse=0, propagated=0, negative=0, dense=1, association=0),
        "pretrain/sparse_baseline": LossWeights(association=0),
    }
    folders = ("checkpoints_mstep_0", "checkpoints_mstep_1", "checkpoints", "checkpoints")
    for (name, expected), folder in zip(weights.items(), folders, strict=True):
        config = config_of(f"nuscenes/{name}.yaml")
        assert builder.make_loss_weights(config) == expected
        assert builder.checkpoint_dir(config, "RUN") == f"RUN/{folder}"
    assert [builder.pseudo_label_dir("RUN", i) for i in (1, 2)] == ["RUN/pseudo_labels_0", "RUN/pseudo_labels_1"]
    (group,) = builder.make_optimizer(config_of(), torch.nn.Linear(1, 1)).param_groups
    expected = {"lr": 0.24, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}
    assert {key: group[key] for key in expected} == expected
    assert builder.image_size(config_of(), reader_of_one_frame()) == (360, 640)


def too_small(root, override):
    builder.image_size(config_of("nuscenes/default.yaml", override), reader_of_one_frame())


def open_data(root, *overrides):
    config = fake_config(PRETRAIN, root, *overrides)
    builder.make_dataset(config, builder.make_reader(config, "train"), "train")


@pytest.mark.parametrize(
    ("work", "overrides", "message"),
    [
        (open_data, ["--dataset.name=nonsense"], r"dataset\.name.*'nonsense'.*known.*nuscenes"),
        (open_data, ["--data.num_classes=20"], "data.num_classes is 20, but nuscenes has 17"),
        (open_data, ["--model.in_channel=4", "--dataset.use_color=true"], "model.in_channel is 4, but points have 7"),
        (open_data, ["--model.in_channel=5"], "model.in_channel is 5, but points have 4"),
        (too_small, ["--dataset.image_crop_rate=0.01"], r"image_crop_rate: too small \(it makes images of 9x16 pixels"),
        (too_small, ["--dataset.image_size=[16, 16]"], r"dataset\.image_size: too small \(it makes images of 16x16"),
    ],
)
def test_values_that_do_not_serve(root, work, overrides, message):
    with pytest.raises(UserError, match=message):
        work(root, *overrides)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizers_are_fused_on_gpus_alone(device, name):
    """Also with the state of another kind of machine, and under a gradient scaler, which skips what is not finite."""
    config = config_of("nuscenes/default.yaml", "--optimizer.name", name, "--optimizer.lr=0.1")
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Linear(1, 2))
    layer = layer.to(device, memory_format=torch.channels_last)
    fused = True if device == "cuda" else None
    plain = copy.deepcopy(layer)
    kind = torch.optim.SGD if name == "sgd" else torch.optim.AdamW
    options = {"momentum": 0.9, "nesterov": True} if name == "sgd" else {}
    others = kind(plain.parameters(), lr=0.1, weight_decay=1e-4, fused=not fused, **options)
    ours = builder.make_optimizer(config, layer)

    def step(network, optimizer, value):
        scaler = torch.amp.GradScaler(device, init_scale=4.0)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(network(torch.full((2, 3, 5, 1), value, device=device)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    for network, optimizer in ((plain, others), (layer, ours)):
        for value in (1.0, math.inf, 0.5):
            step(network, optimizer, value)
    ours.load_state_dict(copy.deepcopy(others.state_dict()))
    assert [group["fused"] for group in ours.param_groups] == [fused]
    for network, optimizer in ((plain, others), (layer, ours)):
        step(network, optimizer, 0.25)
    for mine, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
