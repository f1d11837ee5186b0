"""Batch norm over the rows of all processes against nn.BatchNorm of the rows joined."""

import contextlib
import copy
import os
from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchpack.distributed import context

from core import builder
from core.models.batch_norm import BatchNorm1d, BatchNorm2d
from core.models.synchronized_norm import (
    SynchronizedBatchNorm,
    synchronize_batch_norm,
)
from core.training.trainer import network_inputs
from tests import made_up
from tests.helpers import DEVICES

CHANNELS = 5
ROWS = {
    "unequal": (37, 6),
    "none in the second": (12, 0),
    "none in the first": (0, 12),
    "one in the first": (1, 20),
    "one each": (1, 1),
    "one together": (0, 1),
    "none": (0, 0),
    "bfloat16": (37, 6),
    "images": (3, 1),
    "images, channels last": (3, 1),
    "images of one process": (2, 0),
}
"""Rows, or images, of two processes."""
CPU = torch.device("cpu")
DDP = SimpleNamespace(ddp=True)


def parts_of(case, step, device="cpu"):
    """The inputs of both processes, whose distributions differ, and what their outputs are multiplied by for a loss."""
    generator = torch.Generator().manual_seed(10 * list(ROWS).index(case) + step)
    images = case.startswith("images")

    def part(count, scale, shift):
        x = scale * torch.randn(count, CHANNELS, *((4, 3) if images else ()), generator=generator) + shift
        x = x.to(device, torch.bfloat16 if case == "bfloat16" else torch.float32)
        return x.contiguous(memory_format=torch.channels_last) if "last" in case else x

    first, second = ROWS[case]
    return [part(first, 1, 0), part(second, 3, 2)], [part(first, 1, 1), part(second, 1, 0)]


def make_norm(case: str, device: str = "cpu") -> nn.Module:
    norm = (BatchNorm2d if case.startswith("images") else BatchNorm1d)(CHANNELS, momentum=0.3)
    with torch.no_grad():
        for values, start in zip((norm.weight, norm.bias, norm.running_mean), (0.5, -1.0, 0.1), strict=True):
            values.copy_(torch.linspace(start, start + 1, CHANNELS))
    return norm.to(device)


def two_steps(norm: nn.Module, case: str, parts: list[int], device: str = "cpu") -> dict:
    """What two steps of training on the given processes' rows give."""
    outputs, grads = [], []
    for step in range(2):
        inputs, factors = parts_of(case, step, device)
        x = torch.cat([inputs[i] for i in parts]).requires_grad_()
        y = norm(x)
        assert y.dtype == x.dtype and y.stride() == x.stride()
        (y * torch.cat([factors[i] for i in parts])).float().sum().backward()
        assert x.grad is not None
        outputs.append(y.detach())
        grads.append(x.grad)
    return {
        "outputs": outputs,
        "grads": grads,
        "weights": [norm.weight.grad, norm.bias.grad],
        "state": norm.state_dict(),
    }


def assert_equal(found, expected, case: str, rtol: float = 1e-5) -> None:
    """Up to rounding; results in bfloat16 up to its rounding."""
    for name, values in expected.items():
        pairs = zip(found[name], values, strict=True)
        if name == "state":
            assert list(found[name]) == list(values)
            pairs = zip(found[name].values(), values.values(), strict=True)
        coarse = case == "bfloat16" and name != "state"
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=2e-2 if coarse else rtol, atol=2e-2 if coarse else 1e-5)


def process(rank: int, folder: str) -> None:
    """Runs in each of two processes; leaves its results in a file."""
    torch.set_num_threads(1)
    context._world_size, context._world_rank = 2, rank
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {case: two_steps(synchronize_batch_norm(make_norm(case)), case, [rank]) for case in ROWS}
    found["network"] = network_step(rank)
    found["gradients"] = [sgd_steps(wrap, rank) for wrap in (DistributedDataParallel, distribute)]
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


def distribute(network: nn.Module) -> nn.Module:
    return builder.distribute(DDP, network, CPU)


def sgd_steps(wrap, rank: int) -> dict:
    """Training steps as the trainer takes them, on a network whose batch norm is of each process alone."""
    model = wrap(made_up.SmallNetwork())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in range(3):
        outputs = model(**network_inputs(made_up.batch([2 * step + rank])))
        optimizer.zero_grad(set_to_none=True)
        (outputs.x_vox.square().mean() + outputs.x_pix.square().mean()).backward()
        optimizer.step()
    return model.module.state_dict()


def network_step(rank: int) -> dict:
    """The network's outputs, gradients and state on one sample a process, its stem being computed twice."""
    network = synchronize_batch_norm(made_up.network())
    network.pix_branch.checkpoint_stem = True
    model = DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)
    return network_results(model, network, [rank])


def network_results(model: nn.Module, network: nn.Module, indices: list[int]) -> dict:
    outputs = model(**network_inputs(made_up.batch(indices)))
    named = {name: value for name, value in vars(outputs).items() if value is not None}
    sum((value.square().sum() for value in named.values()), torch.tensor(0.0)).backward()
    return {
        "outputs": {name: value.detach() for name, value in named.items()},
        "grads": {name: parameter.grad for name, parameter in network.named_parameters()},
        "state": network.state_dict(),
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What both processes found."""
    folder = str(tmp_path_factory.mktemp("processes"))
    torch.multiprocessing.spawn(process, (folder,), nprocs=2)
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", [case for case in ROWS if case != "none"])
def test_two_processes_are_one(results, case):
    """Outputs, gradients and running statistics."""
    ours = [result[case] for result in results]
    joined = {
        "outputs": [torch.cat(pair) for pair in zip(*(part["outputs"] for part in ours), strict=True)],
        "grads": [torch.cat(pair) for pair in zip(*(part["grads"] for part in ours), strict=True)],
        "weights": [sum(pair) for pair in zip(*(part["weights"] for part in ours), strict=True)],
        "state": ours[0]["state"],
    }
    assert_equal(joined, two_steps(make_norm(case), case, [0, 1]), case)
    for first, second in zip(*(part["state"].values() for part in ours), strict=True):
        assert torch.equal(first, second)


def test_no_rows_change_nothing(results):
    before = make_norm("none").state_dict()
    for found in (result["none"] for result in results):
        assert all(torch.equal(found["state"][name], value) for name, value in before.items())
        assert not any(len(values) for values in found["outputs"] + found["grads"])
        assert not any(values.any() for values in found["weights"])


def test_a_network_of_two_processes_is_one(results):
    """One sample in each process is a batch of two; nothing depends on whether the stem is kept or computed again."""
    network = made_up.network()
    expected = network_results(network, network, [0, 1])
    ours = [result["network"] for result in results]
    for name, values in expected["outputs"].items():
        torch.testing.assert_close(torch.cat([part["outputs"][name] for part in ours]), values, rtol=1e-3, atol=1e-3)
    for name, values in expected["state"].items():
        assert torch.equal(ours[0]["state"][name], ours[1]["state"][name])
        torch.testing.assert_close(ours[0]["state"][name], values, rtol=1e-4, atol=1e-4)
    largest = max(values.norm() for values in expected["grads"].values())
    for name, values in expected["grads"].items():
        difference = (2 * ours[0]["grads"][name] - values).norm()  # DDP takes the mean
        assert difference <= 1e-3 * values.norm() + 1e-5 * largest, name


@contextlib.contextmanager
def group_of_one(device: str, folder):
    """Within it, the host may not wait for the GPU."""
    backend = "nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/meet", world_size=1, rank=0)
    try:
        torch.distributed.all_reduce(torch.zeros(1, device=device))  # opens the connection
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def no_waiting(device: str):
    set_mode = torch.cuda.set_sync_debug_mode if device == "cuda" else lambda mode: None
    set_mode("error")
    try:
        yield
    finally:
        set_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_mixed_precision_without_waiting(tmp_path, device, dtype):
    """In a network under autocast; the host never waits for the GPU."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), BatchNorm2d(8), nn.Conv2d(8, 4, 1), BatchNorm2d(4)).to(device)
    plain = plain.to(memory_format=torch.channels_last)
    ours = synchronize_batch_norm(copy.deepcopy(plain))
    images = torch.rand(2, 3, 9, 8, device=device).contiguous(memory_format=torch.channels_last)
    single = synchronize_batch_norm(make_norm("one together", device))
    row = torch.ones(1, CHANNELS, device=device, requires_grad=True)

    def step(network):
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            outputs = network(images)
        outputs.float().square().mean().backward()
        return outputs

    expected = step(plain)
    with group_of_one(device, tmp_path):
        step(copy.deepcopy(ours))  # what is set up at the first call may wait
        single(row).sum().backward()
        with no_waiting(device):
            outputs = step(ours)
            single(row).sum().backward()
    tolerance = {} if dtype == torch.float32 else {"rtol": 5e-2, "atol": 5e-2}
    torch.testing.assert_close(outputs, expected, **tolerance)
    for name, values in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], values, **tolerance)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, **tolerance)


def test_conversion_keeps_parameters_and_names():
    """Evaluation needs no other process."""
    network = made_up.network()
    before = network.state_dict(keep_vars=True)
    after = synchronize_batch_norm(network).state_dict(keep_vars=True)
    assert list(before) == list(after) and all(after[name] is values for name, values in before.items())
    kinds = {type(module) for module in network.modules()}
    assert SynchronizedBatchNorm in kinds and not kinds & {BatchNorm1d, BatchNorm2d}
    with pytest.raises(ValueError, match="running statistics"):
        synchronize_batch_norm(nn.BatchNorm1d(3, track_running_stats=False))
    norm, x = make_norm("unequal").eval(), torch.randn(4, CHANNELS)
    ours = synchronize_batch_norm(norm)
    assert not ours.training and torch.equal(ours(x), norm(x))


def test_training_on_gpus_is_synchronised(monkeypatch):
    options = {}
    monkeypatch.setattr(builder.loader.dist, "size", lambda: 2)
    monkeypatch.setattr(
        nn.parallel, "DistributedDataParallel", lambda network, **given: options.update(given) or network
    )
    network = builder.distribute(DDP, made_up.network(), torch.device("cuda:1"))
    assert any(isinstance(module, SynchronizedBatchNorm) for module in network.modules())
    assert options == {"device_ids": [1], "broadcast_buffers": False, "gradient_as_bucket_view": True}
    network = builder.distribute(DDP, made_up.network(), CPU)
    assert not any(isinstance(module, SynchronizedBatchNorm) for module in network.modules())
    assert options["broadcast_buffers"]
