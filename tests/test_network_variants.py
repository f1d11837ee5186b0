"""What may be done to the network: computing the stem again, compilation, turned and mirrored views."""

import functools
import json
import os

import pytest
import torch

from core import builder
from core.estep import no_grad_inference
from core.models import SwiftNetResNet
from core.models.views import View, average, make_views
from core.running.config import load_config
from core.sparse.coordinates import coarser_sets
from core.training.trainer import network_inputs
from tests import made_up
from tests.entry import ASSOP2P, BEST, run_script
from tests.helpers import DEVICES, HERE

CONFIG = os.path.join(os.path.dirname(HERE), "configs/nuscenes/pretrain/assop2p.yaml")


@pytest.fixture
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


@pytest.mark.usefixtures("shallow")
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


@pytest.mark.usefixtures("shallow")
def test_a_stem_that_is_computed_again_keeps_no_map_of_full_size():
    """Its convolution and its batch norm leave a map each, in float32."""
    saved = kept_bytes(branch_of()) - kept_bytes(branch_of("cpu", "--model.checkpoint_stem=true"))
    assert saved >= 2 * 64 * 64 * 64 * 4


@pytest.mark.usefixtures("shallow")
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


def inputs_of(points):
    """Voxels of 1 m, two samples with the same points, features x, y, z and intensity."""
    coords = torch.tensor(points, dtype=torch.int32)
    one = coords - coords.amin(0)
    both = torch.cat([torch.nn.functional.pad(one, (0, 1), value=b) for b in (0, 1)])
    feats = torch.nn.functional.pad(coords.float().repeat(2, 1), (0, 1), value=7.0)
    return {"coords": both, "feats": feats, "coarser": ("those of the loader",), "images": "as they are"}


def test_a_quarter_turn_by_hand():
    inputs = inputs_of([[0, 0, 0], [2, 1, 5]])
    turned = View(1)(inputs)
    assert turned["coords"].tolist() == [[1, 0, 0, 0], [0, 2, 5, 0], [1, 0, 0, 1], [0, 2, 5, 1]]
    assert (
        turned["feats"][1].tolist() == [-1, 2, 5, 7] and turned["coarser"] == () and turned["images"] == "as they are"
    )
    assert View()(inputs) is inputs


def test_views_keep_voxels_distinct_and_come_back_after_four_turns():
    inputs = network_inputs(made_up.batch())
    for view in make_views(4):
        coords = view(inputs)["coords"]
        assert coords.dtype == torch.int32 and len(torch.unique(coords, dim=0)) == len(coords)
        assert all(coords[coords[:, 3] == b].amin(0)[:3].tolist() == [0, 0, 0] for b in (0, 1))
        assert len(coarser_sets(coords)) == len(inputs["coarser"])
    again = inputs
    for _ in range(4):
        again = View(1)(again)
    assert torch.equal(again["coords"], inputs["coords"]) and torch.equal(again["feats"], inputs["feats"])
    assert [view.quarters for view in make_views(4)] == [0, 1, 2, 3] and make_views(1) == (View(),)


def test_mean_of_the_probabilities():
    network, batch = made_up.network().eval(), made_up.batch()
    views = make_views(2)
    ours = no_grad_inference(network, "cpu", views=views)(batch)
    with torch.no_grad():
        each = [network(**view(network_inputs(batch))) for view in views]
    for head in ("x_vox", "x_pix"):
        mean = torch.stack([getattr(x, head).softmax(1) for x in each]).mean(0)
        torch.testing.assert_close(getattr(ours, head).softmax(1), mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours.features, torch.stack([x.features for x in each]).mean(0))
    assert not torch.allclose(each[0].x_vox, each[1].x_vox)
    with torch.no_grad():
        single = average(network, network_inputs(batch), (View(),))
    assert torch.equal(single.x_vox, each[0].x_vox) and single.embedding_vox is not None


def test_evaluation_averages_over_the_views(prepared, trained, tmp_path):
    given = [ASSOP2P, "--weight-path", trained / BEST, "--run-dir", tmp_path, *prepared.words()]
    run_script("eval_miou", *given)
    run_script("eval_miou", *given, "--eval_turns", 2)
    plain, averaged = json.loads((tmp_path / "results.json").read_text())
    assert averaged["turns"] == 2 and "turns" not in plain
    assert averaged["scores"] != plain["scores"]
    assert averaged["frames"] == plain["frames"] == pytest.approx(2)
