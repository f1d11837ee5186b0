"""E-step rules against golden numbers and by hand."""

import numpy as np
import pytest
import torch

from core.labeling.pseudo_labels import (
    PseudoLabelRules,
    class_prototypes,
    confident_choice,
    prototype_scores,
    pseudo_labels,
)
from tests.helpers import DEVICES, golden

GOLDEN = {k.removeprefix("few_classes/"): v for k, v in golden("estep.npz").items()}
ROUNDS = {
    "round1": PseudoLabelRules(tuple(range(1, 11))),
    "round2": PseudoLabelRules(
        tuple(range(1, 14)), filter_by_candidates=False, ignored_prototype=True, keep_previous=True
    ),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ROUNDS)
def test_rounds_agree_with_golden(name, device):
    rules = ROUNDS[name]
    x = {k.removeprefix("in/"): torch.from_numpy(v).to(device) for k, v in GOLDEN.items() if k.startswith("in/")}
    candidates = (x["neg_label"] << torch.arange(17, device=device)).sum(1)
    begin = 0
    for i, size in enumerate(x["sizes"].tolist()):
        rows = slice(begin, begin + size)
        begin += size
        logits, features, sparse = x["x_vox"][rows], x["embedding"][rows], x["sparse_label"][rows]
        prototypes, present = class_prototypes(features, sparse, 17)
        np.testing.assert_allclose(prototypes.cpu(), GOLDEN[f"{name}/prototypes"][i], rtol=1e-4, atol=1e-5)
        present[0] = rules.ignored_prototype
        assert np.array_equal(present.cpu(), GOLDEN[f"{name}/exist_mask"][i])
        scores = prototype_scores(features, prototypes, present)
        np.testing.assert_allclose(scores.cpu(), GOLDEN[f"{name}/embedding_score"][rows], rtol=1e-3, atol=1e-5)
        sure = GOLDEN["margin_logit_threshold"][rows] > 1e-6
        choice = confident_choice(scores, rules.threshold, rules.score_margin).cpu().numpy()
        assert np.array_equal(choice, GOLDEN[f"{name}/embedding_label"][rows])
        choice = confident_choice(logits.softmax(1), rules.threshold, rules.probability_margin).cpu().numpy()
        assert np.array_equal(choice[sure], GOLDEN[f"{name}/logit_label"][rows][sure])
        ours = pseudo_labels(logits, features, sparse, candidates[rows], x["prev_pseudo_label"][rows], rules)
        assert np.array_equal(ours.cpu().numpy()[sure], GOLDEN[f"{name}/pseudo_label"][rows][sure])


def test_threshold_follows_the_best_of_the_class():
    scores = torch.tensor([[0.0, 0.95, 0.05], [0.0, 0.86, 0.14], [0.0, 0.84, 0.16], [0.0, 0.45, 0.55]])
    assert confident_choice(scores, 0.5, 0.1).tolist() == [1, 1, 0, 2]
    assert confident_choice(torch.tensor([[0.0, 0.5, 0.5]]), 0.5, 0.1).tolist() == [0]  # two classes reach 0.5


def test_empty_sample():
    empty = torch.zeros(0, dtype=torch.long)
    found = pseudo_labels(torch.zeros(0, 3), torch.zeros(0, 4), empty, empty, None, PseudoLabelRules((1,)))
    assert found.tolist() == []


@pytest.mark.parametrize(("foreground", "expected"), [((1, 2), [1, 0]), ((1,), [1, 2]), ((2,), [1, 0]), ((), [1, 2])])
def test_prototypes_veto_foreground_classes_only(foreground, expected):
    """The second point's classifier says 2, its prototypes 1."""
    logits = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    features, sparse = torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.tensor([1, 0])
    features = torch.cat([features, torch.tensor([[0.0, 9.0]])])
    logits, sparse = torch.cat([logits, torch.tensor([[0.0, 0.0, 9.0]])]), torch.cat([sparse, torch.tensor([2])])
    rules = PseudoLabelRules(foreground, filter_by_candidates=False)
    assert (
        pseudo_labels(logits, features, sparse, torch.zeros(3, dtype=torch.long), None, rules).tolist()[:2] == expected
    )
