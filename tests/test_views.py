"""Turned and mirrored views of the points: what the network is given, and the mean of what it says."""

import itertools
import json

import pytest
import torch

from core.estep import no_grad_inference
from core.models.views import View, average, make_views
from core.sparse.coordinates import coarser_sets
from core.training.trainer import network_inputs
from tests import made_up
from tests.entry import ASSOP2P, BEST, run_script


def inputs_of(points):
    """Voxels of 1 m, two samples with the same points, features x, y, z and intensity."""
    coords = torch.tensor(points, dtype=torch.int32)
    one = coords - coords.amin(0)
    both = torch.cat([torch.nn.functional.pad(one, (0, 1), value=b) for b in (0, 1)])
    feats = torch.nn.functional.pad(coords.float().repeat(2, 1), (0, 1), value=7.0)
    return {"coords": both, "feats": feats, "coarser": ("those of the loader",), "images": "as they are"}


def test_a_quarter_turn_and_a_mirror_by_hand():
    inputs = inputs_of([[0, 0, 0], [2, 1, 5]])
    turned = View(1)(inputs)
    assert turned["coords"].tolist() == [[1, 0, 0, 0], [0, 2, 5, 0], [1, 0, 0, 1], [0, 2, 5, 1]]
    assert (
        turned["feats"][1].tolist() == [-1, 2, 5, 7] and turned["coarser"] == () and turned["images"] == "as they are"
    )
    mirrored = View(0, True)(inputs)
    assert mirrored["coords"][:2].tolist() == [[0, 1, 0, 0], [2, 0, 5, 0]] and mirrored["feats"][1, 1] == -1
    assert View()(inputs) is inputs


def test_views_keep_voxels_distinct_and_come_back_after_four_turns():
    inputs = network_inputs(made_up.batch())
    for view in make_views(4, True):
        coords = view(inputs)["coords"]
        assert coords.dtype == torch.int32 and len(torch.unique(coords, dim=0)) == len(coords)
        assert all(coords[coords[:, 3] == b].amin(0)[:3].tolist() == [0, 0, 0] for b in (0, 1))
        assert len(coarser_sets(coords)) == len(inputs["coarser"])
    again = inputs
    for _ in range(4):
        again = View(1)(again)
    assert torch.equal(again["coords"], inputs["coords"]) and torch.equal(again["feats"], inputs["feats"])
    kinds = {(view.quarters, view.mirrored) for view in make_views(4, True)}
    assert kinds == set(itertools.product(range(4), (False, True))) and make_views(1, False) == (View(),)


def test_mean_of_the_probabilities():
    network, batch = made_up.network().eval(), made_up.batch()
    views = make_views(2, True)
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
    run_script("eval_miou", *given, "--eval_turns", 2, "--eval_flips", "true")
    plain, averaged = json.loads((tmp_path / "results.json").read_text())
    assert (averaged["turns"], averaged["flips"]) == (2, True) and "turns" not in plain
    assert averaged["scores"] != plain["scores"]
    assert averaged["frames"] == plain["frames"] == pytest.approx(2)
