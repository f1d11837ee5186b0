"""Loss terms against golden numbers, gradients included."""

import json
import os

import numpy as np
import pytest
import torch

from core.loader.collate import labelled_rows
from core.losses import LossWeights, Targets, loss_terms, terms
from core.models.two_branch import Outputs
from tests.helpers import DEVICES, HERE, golden

GOLDEN = golden("losses.npz")
with open(os.path.join(HERE, "goldens", "losses_abnormal.json")) as file:
    ABNORMAL = json.load(file)
STAGES = {"pretrain": LossWeights(), "mstep": LossWeights(pseudo=1.0, temperature=1.0)}
LABELS = ("sparse_label", "prop_label", "pseudo_label")
FLOATS = ("x_vox", "x_pix", "embedding_vox", "embedding_pix")


def inputs(case: str, device: str) -> dict[str, torch.Tensor]:
    result = {}
    for key in [k for k in GOLDEN if k.startswith("main/in/")]:
        name = key.split("/")[-1]
        value = torch.from_numpy(GOLDEN.get(f"{case}/in/{name}", GOLDEN[key])).to(device)
        result[name] = value.requires_grad_() if name in FLOATS else value.long()
    bits = 1 << torch.arange(17, device=device)
    result["candidates"] = (result["neg_label"] * bits).sum(1)
    return result


def compute(term: str, x: dict[str, torch.Tensor]) -> torch.Tensor:
    kind, *rest = term.split("/")
    if kind in ("ce", "lovasz", "ce_plus_lovasz"):
        functions = {"ce": terms.cross_entropy, "lovasz": terms.lovasz_softmax, "ce_plus_lovasz": terms.segmentation}
        return of_one_head(functions[kind], x[f"x_{rest[1]}"], x[rest[0]])
    if kind == "negative":
        return of_one_head(terms.negative, x[f"x_{rest[0]}"], x["candidates"])
    weights = STAGES[rest[0]]
    if kind in ("walker", "visit"):
        annotated, labels = labelled(x["embedding_vox"], x["sparse_label"])
        targeted, _ = labelled(x["embedding_pix"], x["asso_target"])
        pair = terms.association(annotated, targeted, labels, weights.temperature)
        return pair[kind == "visit"]
    return total(x, weights)["total"]


def total(x: dict[str, torch.Tensor], weights: LossWeights) -> dict[str, torch.Tensor]:
    outputs = Outputs(x["x_vox"], x["x_pix"], x["embedding_vox"], x["embedding_pix"], x["embedding_vox"])
    return loss_terms(outputs, targets_of(x), weights)


def labelled(rows: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Those with a label."""
    return rows[labels != 0], labels[labels != 0]


def of_one_head(term, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A term of the points with a label."""
    logits, labels = labelled(logits, labels)
    return term(logits[None], labels)[0]


def targets_of(x: dict[str, torch.Tensor], seen: np.ndarray | None = None) -> Targets:
    """The labels as the loader's batch gives them."""
    names = {"sparse": "sparse_label", "propagated": "prop_label", "pseudo": "pseudo_label", "negative": "candidates"}
    labels = {name: x[field] for name, field in names.items()} | {"dense": x.get("dense", x["sparse_label"] * 0)}
    arrays = {name: label.cpu().numpy() for name, label in labels.items()}
    everywhere = np.ones(len(x["sparse_label"]), bool) if seen is None else seen
    rows = labelled_rows(arrays, x["asso_target"].cpu().numpy(), everywhere)
    rows["propagated"] = labels["propagated"].cpu().nonzero().squeeze(1)  # golden ones hold no sparse ones in each case
    return Targets(labels, {name: found.to(x["sparse_label"].device) for name, found in rows.items()})


TERMS = sorted({"/".join(k.split("/")[2:]) for k in GOLDEN if "/out/" in k})
CASES = sorted({k.split("/")[0] for k in GOLDEN})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", CASES)
def test_terms_agree_with_golden(case, device):
    checked = 0
    for term in TERMS:
        if f"{case}/out/{term}" not in GOLDEN or term in ABNORMAL[case]:
            continue
        x = inputs(case, device)
        value = compute(term, x)
        value.backward()
        exact = GOLDEN[f"{case}/out_f64/{term}"]
        np.testing.assert_allclose(value.item(), exact, rtol=1e-4, atol=1e-5, err_msg=term)
        for name in FLOATS:
            key = f"{case}/grad/{term}/{name}"
            if key in GOLDEN:
                theirs = GOLDEN[key]
                ours = x[name].grad.cpu().numpy()
                np.testing.assert_allclose(
                    ours, theirs, rtol=1e-3, atol=1e-4 * max(np.abs(theirs).max(), 1e-6), err_msg=f"{term} {name}"
                )
        checked += 1
    assert checked or ABNORMAL[case]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [case for case, terms_ in ABNORMAL.items() if terms_])
def test_terms_without_labels_are_finite(case, device):
    """Where the published code raises or returns NaN: zero without labels, finite with a single one."""
    for term in TERMS:
        x = inputs(case, device)
        value = compute(term, x)
        value.backward()
        assert torch.isfinite(value).all() and value.ndim == 0, term
        assert all(torch.isfinite(x[name].grad).all() for name in FLOATS if x[name].grad is not None), term
        if "nan" in ABNORMAL[case].get(term, "") and not term.startswith("total"):
            assert value == 0, term


def test_points_that_no_camera_sees_take_no_part_in_image_terms():
    x = inputs("main", "cpu")
    outputs = Outputs(x["x_vox"], x["x_pix"], x["embedding_vox"], x["embedding_pix"], x["embedding_vox"])
    seen = np.arange(800) % 3 != 0
    loss_terms(outputs, targets_of(x, seen), LossWeights())["total"].backward()
    assert not x["x_pix"].grad[~seen].any() and not x["embedding_pix"].grad[~seen].any()
    assert x["x_vox"].grad[~seen].any()


def test_lovasz_of_a_perfect_prediction_is_zero_and_of_a_wrong_one_is_one():
    labels = torch.tensor([1, 1, 2])
    perfect = torch.nn.functional.one_hot(labels, 3).float() * 100
    both = torch.stack([perfect, perfect.roll(1, 1)])
    assert terms.lovasz_softmax(both, labels).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_cosines_do_not_depend_on_the_length_of_embeddings():
    """Two points and two pixels at right angles: each walks to its own pixel with the odds of the temperature."""
    points, pixels, labels = 30 * torch.eye(2), 0.1 * torch.eye(2), torch.tensor([1, 2])
    walker, visit = terms.association(points, pixels, labels, 0.5, normalize=True)
    own = torch.sigmoid(torch.tensor(1 / 0.5))
    assert walker.item() == pytest.approx(-torch.log(own**2 + (1 - own) ** 2).item(), abs=1e-6)
    assert visit.item() == pytest.approx(0, abs=1e-6)
    longer = terms.association(7 * points, pixels, labels, 0.5, normalize=True)
    torch.testing.assert_close(longer, (walker, visit))
    assert terms.association(points, pixels, labels, 0.5)[0].item() != pytest.approx(walker.item(), abs=1e-3)


def test_association_rises_along_its_ramp():
    weights = LossWeights(association=0.5, ramp=4)
    assert [weights.at(k).association for k in range(6)] == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]
    assert weights.at(1).sparse == weights.sparse and LossWeights().at(0) == LossWeights()
    x = inputs("main", "cpu")
    values = total(x, weights.at(0))
    whole = total(x, weights.at(9))
    share = values["walker"] + 0.5 * values["visit"]
    torch.testing.assert_close(whole["total"] - values["total"], 0.375 * share, rtol=1e-4, atol=1e-4)
