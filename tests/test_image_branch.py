"""What may be done to the image branch without a change of its results: activation checkpointing, compilation."""

import functools
import os

import pytest
import torch

from core import builder
from core.models import SwiftNetResNet
from core.running.config import load_config
from tests.helpers import DEVICES, HERE

CONFIG = os.path.join(os.path.dirname(HERE), "configs/nuscenes/pretrain/assop2p.yaml")


@pytest.fixture(autouse=True)
def shallow(monkeypatch):
    """One block a stage."""
    monkeypatch.setitem(builder.network.IMAGE_BLOCKS, "resnet18", (1, 1, 1, 1))


def branch_of(device: str = "cpu", *overrides: str) -> SwiftNetResNet:
    """The branch of a configuration's network, with the same weights each time."""
    torch.manual_seed(0)
    config = load_config(
        CONFIG, overrides=("--model.cr=0.16", "--data.num_classes=17", "--model.in_channel=4", *overrides)
    )
    return builder.make_model(config, torch.device(device), imagenet=False).pix_branch


def two_steps(branch: SwiftNetResNet, device: str, size: tuple[int, int] = (32, 40), half: bool = False) -> dict:
    """State, gradients and last output after two steps of training, another output in evaluation."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(2, 3, *size, generator=generator).to(device) for _ in range(2)]
    images = [x.contiguous(memory_format=torch.channels_last) for x in images]
    outputs = []
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        for x in images:
            outputs.append(branch(x)[1])
            outputs[-1].float().square().mean().backward()
        with torch.no_grad():
            outputs.append(branch.eval()(images[0])[1])
    return {
        **{f"output {i}": value.detach() for i, value in enumerate(outputs)},
        **{f"grad {name}": parameter.grad for name, parameter in branch.named_parameters()},
        **branch.state_dict(),
    }


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_the_stem_may_be_computed_again(device, half):
    """Gradients and running statistics are those of a stem whose maps are kept."""
    expected = two_steps(branch_of(device), device, half=half)
    found = two_steps(branch_of(device, "--model.checkpoint_stem=true"), device, half=half)
    assert list(found) == list(expected)
    for name, value in expected.items():
        if device == "cpu":
            assert torch.equal(found[name], value), name
        else:  # sums of a GPU's convolutions may differ from call to call
            torch.testing.assert_close(found[name], value, rtol=2e-2, atol=1e-2 if half else 1e-4)


def kept_bytes(branch: SwiftNetResNet) -> int:
    """What a forward pass keeps for the backward pass."""
    sizes = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: sizes.setdefault(x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()) and x, lambda x: x
    ):
        outputs = branch(torch.rand(1, 3, 64, 64))  # what is kept stays alive, so that no two have one address
    assert outputs[1].requires_grad
    return sum(sizes.values())


def test_a_stem_that_is_computed_again_keeps_no_map_of_full_size():
    """Its convolution and its batch norm leave a map each, in float32."""
    saved = kept_bytes(branch_of()) - kept_bytes(branch_of("cpu", "--model.checkpoint_stem=true"))
    assert saved >= 2 * 64 * 64 * 64 * 4


def test_compilation_changes_neither_results_nor_names(monkeypatch):
    """Traced, with PyTorch's own operations in place of generated kernels, which take long to make."""
    expected = two_steps(branch_of(), "cpu")
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    branch = branch_of("cpu", "--model.compile=true", "--model.checkpoint_stem=true")
    found = two_steps(branch, "cpu")
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
