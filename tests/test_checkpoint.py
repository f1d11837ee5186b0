"""Checkpoints: loading, refusing, writing."""

import argparse
import collections
import os
import pickle
import resource
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet34

from core.errors import UserError
from core.models import SwiftNetResNet
from core.training.checkpoint import (
    file_hash,
    load_imagenet,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from tests import made_up


def small(outputs=3):
    torch.manual_seed(outputs)
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, outputs))


def saved(tmp_path, content, name="checkpoint.pt"):
    path = str(tmp_path / name)
    torch.save(content, path)
    return path


def equal_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("bare", [False, True])
def test_loads_with_and_without_prefix(tmp_path, prefix, bare):
    source, target = small(), small()
    target[0].weight.data.zero_()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    load_weights(target, saved(tmp_path, state if bare else {"model": state}))
    assert equal_states(source, target)


def test_published_checkpoint(tmp_path):
    """A dict of the network's state beside optimizer, scheduler, scaler, callbacks and counters."""
    source, target = made_up.network(1), made_up.network(2)
    optimizer = torch.optim.SGD(source.parameters(), lr=0.24, momentum=0.9, nesterov=True)
    content = {
        "model": {f"module.{name}": value for name, value in source.state_dict().items()},
        "scaler": {},
        "optimizer": optimizer.state_dict(),
        "scheduler": {"base_lrs": [0.24], "last_epoch": 58650, "_step_count": 58651, "lr_lambdas": [None]},
        "callbacks": {"maxsaver.5": {"best": (58650, 76.7)}},
        "epoch_num": 25,
        "local_step": 2345,
        "global_step": 58625,
    }
    path = saved(tmp_path, content)
    load_weights(target, path)
    assert equal_states(source, target)
    assert read_checkpoint(path)["epoch_num"] == 25


def with_numbers_of_numpy(source):
    """A checkpoint whose schedule computes with NumPy, so that rates, counts and scores are NumPy's numbers."""
    optimizer = torch.optim.SGD(source.parameters(), lr=0.24, momentum=0.9)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = np.float64(0.125)
    return {
        "model": {f"module.{name}": value for name, value in source.state_dict().items()},
        "optimizer": state,
        "scheduler": {"last_epoch": np.int64(7), "_last_lr": [np.float64(0.125)], "lr_lambdas": [None]},
        "scaler": {"scale": np.float32(65536), "odd": np.array([258], ">i2")[0], "on": np.bool_(True)},
        "callbacks": {"maxsaver.5": {"best": (58650, np.float64(76.7))}},
        "epoch_num": 25,
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_numbers_of_numpy(tmp_path, log, legacy, package):
    """Whichever NumPy wrote them, they are read as Python's numbers."""
    source, target = small(), small()
    target[0].weight.data.zero_()
    path = str(tmp_path / "checkpoint.pt")
    torch.save(with_numbers_of_numpy(source), path, _use_new_zipfile_serialization=not legacy)
    rename_package(path, package)
    content = read_checkpoint(path)
    assert content["optimizer"]["param_groups"][0]["lr"] == 0.125
    assert content["scheduler"] == {"last_epoch": 7, "_last_lr": [0.125], "lr_lambdas": [None]}
    assert content["scaler"] == {"scale": 65536.0, "odd": 258, "on": True}
    assert content["callbacks"]["maxsaver.5"]["best"] == (58650, 76.7)
    assert all(type(value) in (int, float, bool) for value in content["scaler"].values())
    load_weights(target, path)
    assert equal_states(source, target) and log == []


def rename_package(path, package):
    """Makes a file of one NumPy's numbers another NumPy's."""
    names = [f"cnumpy.{name}.multiarray\nscalar\n".encode() for name in ("core", "_core")]
    wanted = f"c{package}.multiarray\nscalar\n".encode()

    def renamed(content):
        for name in names:
            content = content.replace(name, wanted)
        return content

    if not zipfile.is_zipfile(path):
        content = renamed(Path(path).read_bytes())
        assert wanted in content
        Path(path).write_bytes(content)
        return
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, renamed(content) if name.endswith("data.pkl") else content)


class Foreign:
    """An object of somebody's own code."""

    def __init__(self):
        self.values = [1, 2]


@pytest.mark.parametrize("legacy", [False, True])
def test_what_is_more_than_tensors_and_numbers_is_left_out(tmp_path, log, legacy):
    """The network's state is read from any such file, and whatever else can be; the log names the rest."""
    source, target = small(), small()
    target[0].weight.data.zero_()
    content = {
        **with_numbers_of_numpy(source),
        "arguments": argparse.Namespace(lr=0.1),
        "history": {"deep": [collections.defaultdict(list, {1: [Foreign()]})]},
        "array": np.arange(3),
        "class": Foreign,
        "queue": collections.deque([1, 2], maxlen=3),
    }
    path, before = str(tmp_path / "checkpoint.pt"), set(torch.serialization.get_safe_globals())
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    load_weights(target, path)
    assert equal_states(source, target)
    assert "not read, since they hold more than tensors and plain values: arguments, history, array, class." in log[0]
    found = read_checkpoint(path)
    assert found["epoch_num"] == 25 and found["queue"] == [1, 2] and "arguments" not in found
    assert set(torch.serialization.get_safe_globals()) == before


class Trap:
    """Runs a command when it is unpickled, by a function that PyTorch does not know."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return subprocess.check_call, (["mkdir", self.path],)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_of_any_module_is_not_run(tmp_path, log, legacy):
    source, target, trap = small(), small(), str(tmp_path / "trap")
    path = str(tmp_path / "checkpoint.pt")
    content = {"model": source.state_dict(), "extra": Trap(trap)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    load_weights(target, path)
    assert equal_states(source, target) and not os.path.exists(trap) and "extra" in log[0]
    pickle.loads(pickle.dumps(Trap(trap)))
    assert os.path.exists(trap)  # it would have been


def test_other_shapes_are_named(tmp_path):
    path = saved(tmp_path, {"model": small(3).state_dict()})
    target = small(5)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(UserError, match=r"2\.weight is \[3, 4\], .* has \[5, 4\] \(2 differences\).*data\.num_classes"):
        load_weights(target, path)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


def test_missing_and_unknown_tensors(tmp_path):
    state = dict(small().state_dict())
    state["extra"] = torch.zeros(1)
    with pytest.raises(UserError, match="extra is unknown"):
        load_weights(small(), saved(tmp_path, {"model": state}))
    del state["extra"], state["2.bias"], state["1.running_var"]
    with pytest.raises(UserError, match=r"1\.running_var is missing .*\(2 differences\)"):
        load_weights(small(), saved(tmp_path, {"model": state}))


def test_no_such_file(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        read_checkpoint(str(tmp_path / "none.pt"))


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
def test_truncated_file(tmp_path, share):
    path = saved(tmp_path, {"model": small().state_dict()})
    os.truncate(path, int(share * os.path.getsize(path)))
    with pytest.raises(UserError, match="checkpoint.pt: not a readable checkpoint") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"\x80\x02", b"hello world\n", b"PK\x03\x04rest"])
def test_file_of_another_kind(tmp_path, content):
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        read_checkpoint(str(tmp_path / "x.pt"))


def test_a_checkpoint_that_is_no_dict(tmp_path):
    with pytest.raises(UserError, match="found Tensor"):
        read_checkpoint(saved(tmp_path, torch.zeros(3)))


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, legacy):
    trap, path = str(tmp_path / "trap"), str(tmp_path / "bad.pt")
    content = {"model": small().state_dict(), "extra": Malicious(trap)}
    if legacy:
        with open(path, "wb") as file:
            pickle.dump(content, file)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match="not a readable checkpoint") as error:
        read_checkpoint(path)
    assert not os.path.exists(trap)
    assert "to `False`" not in str(error.value)  # PyTorch's own message advises to run it
    pickle.loads(pickle.dumps(Malicious(trap)))
    assert os.path.exists(trap)  # it would have


def test_imagenet_from_torchvision(tmp_path, log):
    branch, theirs = SwiftNetResNet(), resnet18(weights=None)
    load_imagenet(branch, saved(tmp_path, theirs.state_dict()))
    own, state = branch.state_dict(), theirs.state_dict()
    taken = [name for name in state if not name.startswith("fc.")]
    assert all(torch.equal(own[name], state[name]) for name in taken)
    assert len(taken) == 120
    message = "".join(log)
    assert "120 tensors taken" in message and "not taken from it: fc.bias, fc.weight;" in message
    assert f"{len(own) - 120} tensors of the image branch start at random" in message


def test_imagenet_from_a_swiftnet_file(tmp_path, log):
    branch, theirs = SwiftNetResNet(), SwiftNetResNet()
    state = {f"module.backbone.{name}": value for name, value in theirs.state_dict().items()}
    load_imagenet(branch, saved(tmp_path, {"model": state}))
    assert equal_states(branch, theirs)
    assert "not taken from it: none; 0 tensors" in "".join(log)


def test_imagenet_tensors_of_other_shape_are_left(tmp_path, log):
    branch = SwiftNetResNet()
    state = resnet18(weights=None).state_dict()
    state["conv1.weight"] = torch.zeros(64, 4, 7, 7)
    load_imagenet(branch, saved(tmp_path, state))
    assert branch.conv1.weight.abs().sum() > 0
    assert "conv1.weight, fc.bias" in "".join(log)


def test_imagenet_of_a_deeper_resnet(tmp_path, log):
    branch, theirs = SwiftNetResNet((3, 4, 6, 3)), resnet34(weights=None)
    state = {name: value for name, value in theirs.state_dict().items() if "num_batches" not in name}  # as old files
    load_imagenet(branch, saved(tmp_path, state), "resnet34")
    own = branch.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state if not name.startswith("fc."))
    assert "180 tensors taken" in "".join(log)


def test_imagenet_of_another_depth_is_refused(tmp_path):
    for blocks, theirs, name, counts in (
        ((3, 4, 6, 3), resnet18, "resnet34", (8, 16)),
        ((2, 2, 2, 2), resnet34, "resnet18", (16, 8)),
    ):
        path = saved(tmp_path, theirs(weights=None).state_dict())
        with pytest.raises(UserError, match=f"{counts[0]} blocks, that of model.name has {counts[1]}.*{name}-"):
            load_imagenet(SwiftNetResNet(blocks), path, name)


def test_imagenet_may_be_left_out():
    branch, reference = SwiftNetResNet(), SwiftNetResNet()
    reference.load_state_dict(branch.state_dict())
    load_imagenet(branch, None)
    assert equal_states(branch, reference)


def test_imagenet_errors(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: .*not found; download https://download\.pytorch\.org"):
        load_imagenet(SwiftNetResNet(), str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"download https://.*/resnet34-b627a593\.pth to that path"):
        load_imagenet(SwiftNetResNet((3, 4, 6, 3)), str(tmp_path / "none.pth"), "resnet34")
    with pytest.raises(UserError, match="holds no tensor of the image branch"):
        load_imagenet(SwiftNetResNet(), saved(tmp_path, small().state_dict()))


def test_newest_checkpoint_counts_in_numbers(tmp_path):
    folder = tmp_path / "RUN [1]"
    assert newest_checkpoint(str(folder)) is None
    folder.mkdir()
    names = ["step-9.pt", "step-100.pt", "step-20.pt", "step-1000.pt.tmp", "max-iou-vox-val.pt", "step-x.pt"]
    for name in names:
        (folder / name).write_bytes(b"")
    assert newest_checkpoint(str(folder)) == str(folder / "step-100.pt")


def test_saved_state_reads_back(tmp_path):
    path = str(tmp_path / "new/folder/step-1.pt")
    save_checkpoint(path, {"model": small().state_dict(), "epoch_num": 3})
    content = read_checkpoint(path)
    assert content["epoch_num"] == 3 and torch.equal(content["model"]["0.weight"], small()[0].weight)


def test_a_failure_while_saving_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "step-1.pt")
    save_checkpoint(path, {"epoch_num": 1})

    def fail(state, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch_num": 2})
    assert read_checkpoint(path) == {"epoch_num": 1}
    assert os.listdir(tmp_path) == ["step-1.pt"]


def test_full_disk(tmp_path):
    path = str(tmp_path / "step-1.pt")
    save_checkpoint(path, {"epoch_num": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"step-1\.pt: checkpoint cannot be written.*earlier ones are intact"):
            save_checkpoint(path, {"tensor": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_checkpoint(path) == {"epoch_num": 1}
    assert os.listdir(tmp_path) == ["step-1.pt"]


def test_file_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(str(tmp_path / "a")) == "ba7816bf8f01cfea"
