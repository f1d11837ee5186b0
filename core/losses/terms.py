"""The terms of the loss, one function each, of the points that have the label (`Targets` knows which).

Nothing here makes the host wait for a GPU: sizes are known beforehand, classes that are absent weigh 0. A term without
points is zero, with zero gradient, and never NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PROBABILITY_FLOOR = 1e-7
LOG_OFFSET = 1e-10


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each head.

    Args:
        logits: [H, n, C] of H heads.
        labels: int64 [n], 1..C-1.
    Returns [H].
    """
    own = logits.log_softmax(2).gather(2, labels.expand(len(logits), -1)[:, :, None])
    return -own.sum((1, 2)) / max(len(labels), 1)


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax (Berman et al., CVPR 2018) of each head, mean over the classes present.

    Args: as `cross_entropy`.
    Returns [H].
    """
    if len(labels) == 0:
        return _zero(logits).expand(len(logits))
    classes = torch.arange(1, logits.shape[2], device=labels.device)
    foreground = (labels[None] == classes[:, None]).to(logits.dtype)  # [C - 1, n]: sums along rows are the quick ones
    probabilities = logits.softmax(2)[:, :, 1:].transpose(1, 2)
    errors, order = torch.sort((foreground - probabilities).abs(), dim=2, descending=True)
    gradient = _lovasz_gradient(foreground.expand_as(order).gather(2, order))
    present = foreground.amax(1)
    return ((errors * gradient).sum(2) * present).sum(1) / present.sum()


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss, for errors in descending order (their algorithm 1).

    Args:
        foreground: [..., n], 1 where the point is of the class, sorted like the errors.
    """
    hits = foreground.cumsum(-1)
    positives = hits[..., -1:]
    rank = torch.arange(1, foreground.shape[-1] + 1, dtype=foreground.dtype, device=foreground.device)
    jaccard = 1 - (positives - hits) / (positives + rank - hits)
    return jaccard - F.pad(jaccard[..., :-1], (1, 0))


def segmentation(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy + Lovász-softmax of each head, [H]."""
    return cross_entropy(logits, labels) + lovasz_softmax(logits, labels)


def negative(logits: Tensor, candidates: Tensor) -> Tensor:
    """Punishes probability outside a point's candidates: mean of -log(max(1 - p, 1e-7)).

    p is the sum over classes 1.. that are no candidates; class 0 never counts as wrong.

    Args:
        logits: [H, n, C] of H heads.
        candidates: int64 [n] bit mask, bit c = class c; not 0.
    Returns [H].
    """
    if len(candidates) == 0:
        return _zero(logits).expand(len(logits))
    wrong = (logits.softmax(2) * ~multi_hot(candidates | 1, logits.shape[2])).sum(2)
    return -torch.log((1 - wrong).clamp(min=PROBABILITY_FLOOR)).mean(1)


def multi_hot(candidates: Tensor, num_classes: int) -> Tensor:
    """int64 [N] bit masks -> bool [N, C]."""
    return (candidates[:, None] >> torch.arange(num_classes, device=candidates.device)) & 1 == 1


def association(
    annotated: Tensor, targeted: Tensor, labels: Tensor, temperature: float, normalize: bool = False
) -> tuple[Tensor, Tensor]:
    """Walker and visit loss of association learning (Haeusser et al., CVPR 2017) from points to pixels and back.

    Over the whole batch; S = A Bᵀ / temperature; P_ab and P_ba are row softmaxes of S and Sᵀ. walker is
    KL(T ‖ P_ab P_ba) per row, T uniform over annotated voxels of the same class; visit is
    KL(uniform ‖ mean row of P_ab).

    Args:
        annotated: [a, D], A: point embeddings of annotated voxels.
        targeted: [b, D], B: pixel embeddings of points with an association target.
        labels: int64 [a], sparse labels of A.
        normalize: embeddings are scaled to length 1 first: S holds cosines, from -1 to 1, over the temperature.
    Returns (walker, visit).
    """
    if not (len(annotated) and len(targeted)):
        zero = _zero(annotated) + _zero(targeted)
        return zero, zero
    annotated, targeted = annotated.float(), targeted.float()
    if normalize:
        annotated, targeted = F.normalize(annotated, dim=1), F.normalize(targeted, dim=1)
    similarity = annotated @ targeted.t() / temperature
    to_pixels, to_points = similarity.softmax(1), similarity.t().softmax(1)
    same = (labels[:, None] == labels[None]).to(similarity.dtype)
    walk = same / same.sum(1, keepdim=True)
    walker = F.kl_div(torch.log(to_pixels @ to_points + LOG_OFFSET), walk, reduction="batchmean")
    visited = to_pixels.mean(0)
    visit = F.kl_div(torch.log(visited + LOG_OFFSET), torch.full_like(visited, 1 / len(visited)), reduction="sum")
    return walker, visit


def _zero(x: Tensor) -> Tensor:
    """A zero that depends on `x`, so that every parameter has a gradient in every step (DDP waits for each)."""
    return x.sum() * 0.0
