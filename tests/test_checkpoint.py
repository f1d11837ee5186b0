"""Checkpoints: loading, refusing, writing."""

import argparse
import collections
import os
import pickle
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
    load_imagenet,
    load_weights,
    read_checkpoint,
)


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
    """Runs a command when it is unpickled: by a function that PyTorch does not know, or by one that it does."""

    def __init__(self, path, function):
        self.path, self.function = path, function

    def __reduce__(self):
        if self.function is os.mkdir:
            return os.mkdir, (self.path,)
        return subprocess.check_call, (["mkdir", self.path],)


@pytest.mark.parametrize("function", [subprocess.check_call, os.mkdir])
@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_not_run(tmp_path, log, legacy, function):
    """Its entry is left out, or the file refused."""
    source, target, trap, path = small(), small(), str(tmp_path / "trap"), str(tmp_path / "bad.pt")
    content = {"model": source.state_dict(), "extra": Trap(trap, function)}
    if function is os.mkdir and legacy:
        Path(path).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    if function is os.mkdir:
        with pytest.raises(UserError, match="not a readable checkpoint") as error:
            read_checkpoint(path)
        assert "to `False`" not in str(error.value)  # PyTorch's own message advises to run it
    else:
        load_weights(target, path)
        assert equal_states(source, target) and "extra" in log[0]
    assert not os.path.exists(trap)
    pickle.loads(pickle.dumps(Trap(trap, function)))
    assert os.path.exists(trap)  # it would have been


def test_other_shapes_are_named(tmp_path):
    path = saved(tmp_path, {"model": small(3).state_dict()})
    target = small(5)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(UserError, match=r"2\.weight is \[3, 4\], .* has \[5, 4\] \(2 differences\).*data\.num_classes"):
        load_weights(target, path)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("content", [0, 0.001, 0.5, 0.99, b"\x80\x02", b"hello world\n", b"PK\x03\x04rest"])
def test_files_that_are_no_checkpoint(tmp_path, content):
    """Cut to a share of their length, or of another kind."""
    path = saved(tmp_path, {"model": small().state_dict()})
    if isinstance(content, bytes):
        Path(path).write_bytes(content)
    else:
        os.truncate(path, int(content * os.path.getsize(path)))
    with pytest.raises(UserError, match="checkpoint.pt: not a readable checkpoint") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_no_checkpoint_or_no_dict(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        read_checkpoint(str(tmp_path / "none.pt"))
    with pytest.raises(UserError, match="found Tensor"):
        read_checkpoint(saved(tmp_path, torch.zeros(3)))


@pytest.mark.parametrize(("blocks", "theirs", "count"), [((2, 2, 2, 2), resnet18, 120), ((3, 4, 6, 3), resnet34, 180)])
def test_imagenet_from_torchvision(tmp_path, log, blocks, theirs, count):
    """A tensor of another shape is left; one of another depth is refused."""
    branch, state = SwiftNetResNet(blocks), theirs(weights=None).state_dict()
    if count == 180:
        state = {name: value for name, value in state.items() if "num_batches" not in name}  # as old files
    load_imagenet(branch, saved(tmp_path, state), theirs.__name__)
    own = branch.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state if not name.startswith("fc."))
    assert f"{count} tensors taken" in log[0] and "not taken from it: fc.bias, fc.weight;" in log[0]
    assert f"{len(own) - count} tensors of the image branch start at random" in log[0]
    load_imagenet(branch, saved(tmp_path, {**state, "conv1.weight": torch.zeros(64, 4, 7, 7)}), theirs.__name__)
    assert branch.conv1.weight.abs().sum() > 0 and "conv1.weight, fc.bias" in log[-1]
    other, name = ((2, 2, 2, 2), "resnet18") if count == 180 else ((3, 4, 6, 3), "resnet34")
    with pytest.raises(UserError, match=f"(8|16) blocks, that of model.name has (16|8).*{name}-"):
        load_imagenet(SwiftNetResNet(other), saved(tmp_path, state), name)


def test_imagenet_errors(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth: .*not found; download https://download\.pytorch\.org"):
        load_imagenet(SwiftNetResNet(), str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"download https://.*/resnet34-b627a593\.pth to that path"):
        load_imagenet(SwiftNetResNet((3, 4, 6, 3)), str(tmp_path / "none.pth"), "resnet34")
    with pytest.raises(UserError, match="holds no tensor of the image branch"):
        load_imagenet(SwiftNetResNet(), saved(tmp_path, small().state_dict()))
