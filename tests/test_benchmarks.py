"""The plain renderings compute what the project computes, and the helpers do what they say."""

import math

import pytest
import torch

from benchmarks.common import alternate, machine, table
from benchmarks.lidar_shell import lidar_shell
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from benchmarks.plain.network import PlainNetwork
from core.losses import LossWeights, loss_terms
from core.models import TwoBranchNetwork
from core.sparse import Coordinates
from core.training.trainer import network_inputs, targets_of

NARROW = {"cr": 0.125, "proj_channel": 8, "image_blocks": (1, 1, 1, 1), "dropout": 0.0}


def test_plain_network_gives_the_same_loss_and_gradients():
    batch = made_up_batch(400, (24, 40))
    results = []
    ours = TwoBranchNetwork(NUM_CLASSES, **NARROW).double()
    plain = PlainNetwork(NUM_CLASSES, **NARROW).double()
    plain.load_state_dict(ours.state_dict())
    for network in (ours, plain):
        network._prepare = lambda images: images.double()
        inputs = network_inputs(batch)
        inputs |= {"feats": inputs["feats"].double(), "pixel": inputs["pixel"].double()}
        terms = loss_terms(network(**inputs), targets_of(batch), LossWeights())
        terms["total"].backward()
        gradients = torch.stack([parameter.grad.norm().float() for parameter in network.parameters()])
        results.append((torch.stack([term.detach().float() for term in terms.values()]), gradients))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


def test_shell_is_as_sparse_as_a_lidars_scan():
    coords = lidar_shell(25_000, 1, seed=1)
    assert coords.shape == (25_000, 4) and len(torch.unique(coords, dim=0)) == 25_000
    coordinates = Coordinates(coords)
    neighbours = [sum(coordinates.kernel_map(3, 1, s).sizes) / len(coordinates.at(s)) for s in (1, 16)]
    assert 0.8 < neighbours[0] < 2 and 4 < neighbours[1] < 9  # a real nuScenes key frame has 1.4 and 5.2


def test_made_up_batch():
    batch = made_up_batch(1000, (24, 40), batch_size=2)
    assert batch.coords.shape == (2000, 4) and batch.images.shape == (2, 6, 3, 24, 40)
    assert bool((batch.image_index // 6 == batch.coords[:, 3]).all()) and float(batch.pixel.abs().max()) <= 1
    assert float((batch.propagated_label > 0).float().mean()) == pytest.approx(0.485, abs=0.05)


def test_table_and_machine():
    rows = [{"work": "a", "s": "1.5"}, {"work": "long", "s": "10"}]
    assert table(rows).splitlines() == ["| work | s   |", "|------|-----|", "| a    | 1.5 |", "| long | 10  |"]
    assert torch.__version__ in machine() and "\n" not in machine()


def test_functions_take_turns_and_the_first_call_does_not_count():
    calls, ticks = [], iter(range(100))
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = alternate(functions, 2, clock=lambda: next(ticks))
    assert calls == ["a", "b"] * 3 and seconds == {"a": [1, 1], "b": [1, 1]}
    assert all(math.isfinite(value) and value >= 0 for value in alternate(functions, 1)["a"])
