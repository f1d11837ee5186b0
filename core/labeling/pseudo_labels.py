"""E-step: pseudo-labels from a trained network, by agreement of its classifier with class prototypes.

Rounds 1 and 2 are one function with other rules. All functions work on the points (voxels' representatives) of ONE
sample; tensors are on any device. Points and classes that do not count weigh nothing instead of being cut out, so that
the CPU need not wait for a GPU to learn how many there are.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PseudoLabelRules:
    """Rules of an E-step round; the defaults are those of round 1.

    Attributes:
        foreground_classes: ids of the classes in which prototypes may veto the classifier.
        threshold: the least score of a kept choice.
        score_margin: how far below the sample's best score of a class a prototype choice may lie.
        probability_margin: likewise for the classifier's probabilities.
        filter_by_candidates: drop choices outside a point's candidates (so only points with candidates get one).
        ignored_prototype: the ignored class takes part in the prototype softmax, as a zero prototype.
        keep_previous: labels of the previous round override.
    """

    foreground_classes: tuple[int, ...]
    threshold: float = 0.5
    score_margin: float = 0.4
    probability_margin: float = 0.1
    filter_by_candidates: bool = True
    ignored_prototype: bool = False
    keep_previous: bool = False


def class_prototypes(features: Tensor, sparse_label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of the annotated points of each class.

    Args:
        features: [N, D].
        sparse_label: int64 [N], 0 = not annotated.
    Returns (prototypes [C, D], 0 where absent; present bool [C]; class 0 is never present).
    """
    classes = torch.arange(num_classes, device=sparse_label.device)
    one_hot = ((sparse_label[:, None] == classes) & (classes > 0)).to(features.dtype)
    counts = one_hot.sum(0)
    return one_hot.t() @ features / counts.clamp(min=1)[:, None], counts > 0


def prototype_scores(features: Tensor, prototypes: Tensor, present: Tensor) -> Tensor:
    """Softmax of feature · prototype over the classes present, 0 for the absent ones -> [N, C]."""
    products = (features @ prototypes.t()).masked_fill(~present, -torch.inf)
    return torch.where(present, products.softmax(1), 0)  # the softmax of none is not a number


def confident_choice(scores: Tensor, threshold: float, margin: float) -> Tensor:
    """The class of each point where exactly one class reaches its threshold, else 0.

    A class's threshold is the larger of `threshold` and (the best score in the sample among points whose argmax it is)
    - margin.

    Args:
        scores: [N, C], rows sum to 1 or are 0.
    """
    if len(scores) == 0:
        return torch.zeros(0, dtype=torch.int64, device=scores.device)
    best, choice = scores.max(1)
    peaks = scores.new_zeros(scores.shape[1]).scatter_reduce(0, choice, best, "amax")
    reached = scores >= (peaks - margin).clamp(min=threshold)
    return torch.where(reached.sum(1) == 1, choice, 0)


def pseudo_labels(
    logits: Tensor,
    features: Tensor,
    sparse_label: Tensor,
    candidates: Tensor,
    previous: Tensor | None,
    rules: PseudoLabelRules,
) -> Tensor:
    """Pseudo-labels of the points of one sample (method section "E-step").

    Args:
        logits: [N, C] of the point head.
        features: [N, D] decoder features.
        sparse_label: int64 [N], 0 = not annotated.
        candidates: int64 [N] bit masks, 0 = none.
        previous: int64 [N] labels of the previous round (0 = none), needed by rules.keep_previous.
    Returns int64 [N], 0 = none.
    """
    num_classes = logits.shape[1]
    prototypes, present = class_prototypes(features, sparse_label, num_classes)
    if rules.ignored_prototype:
        present[0] = present.any()
    scores = prototype_scores(features, prototypes, present)
    by_prototype = confident_choice(scores, rules.threshold, rules.score_margin)
    label = confident_choice(logits.softmax(1), rules.threshold, rules.probability_margin)

    foreground = (sum(1 << c for c in rules.foreground_classes) >> label) & 1 == 1
    label = torch.where(foreground & (by_prototype > 0) & (by_prototype != label), 0, label)
    if rules.filter_by_candidates:
        label = torch.where((candidates >> label) & 1 == 1, label, 0)
    if rules.keep_previous:
        if previous is None:
            raise ValueError("these rules need the previous round's labels")
        label = torch.where(previous > 0, previous, label)
    return torch.where(sparse_label > 0, sparse_label, label)
