"""The terms of the loss, one function each.

Labels are int64 [N], 0 = none. A term without labels in the batch is zero, with zero gradient, and never NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

PROBABILITY_FLOOR = 1e-7
LOG_OFFSET = 1e-10


def cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int = 0) -> Tensor:
    """Mean cross-entropy over points whose label is not `ignore_index`.

    Args:
        logits: [N, C].
        labels: int64 [N].
    """
    summed = F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")
    return summed / (labels != ignore_index).sum().clamp(min=1)


def lovasz_softmax(logits: Tensor, labels: Tensor, ignore_index: int = 0) -> Tensor:
    """Lovász-softmax (Berman et al., CVPR 2018), mean over the classes present among the labelled points.

    Args:
        logits: [N, C].
        labels: int64 [N]; points with `ignore_index` do not count.
    """
    labelled = labels != ignore_index
    probabilities, labels = logits[labelled].softmax(1), labels[labelled]
    if labels.numel() == 0:
        return _zero(logits)
    present = torch.unique(labels)
    foreground = (labels[:, None] == present[None]).to(probabilities.dtype)  # [n, P]
    errors, order = torch.sort((foreground - probabilities[:, present]).abs(), dim=0, descending=True)
    return (errors * _lovasz_gradient(foreground.gather(0, order))).sum(0).mean()


def _lovasz_gradient(foreground: Tensor) -> Tensor:
    """Gradient of the Lovász extension of the Jaccard loss, for errors in descending order (their algorithm 1).

    Args:
        foreground: [n, P], 1 where the point is of the class, sorted like the errors.
    """
    positives = foreground.sum(0)
    intersection = positives - foreground.cumsum(0)
    union = positives + (1 - foreground).cumsum(0)
    jaccard = 1 - intersection / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])


def segmentation(logits: Tensor, labels: Tensor, ignore_index: int = 0) -> Tensor:
    """Cross-entropy + Lovász-softmax."""
    return cross_entropy(logits, labels, ignore_index) + lovasz_softmax(logits, labels, ignore_index)


def negative(logits: Tensor, candidates: Tensor) -> Tensor:
    """Punishes probability outside a point's candidates: mean of -log(max(1 - p, 1e-7)) over points with candidates.

    p is the sum over classes 1.. that are no candidates; class 0 never counts as wrong.

    Args:
        logits: [N, C].
        candidates: int64 [N] bit mask, bit c = class c; 0 = the point has none.
    """
    rows = candidates != 0
    if not bool(rows.any()):
        return _zero(logits)
    allowed = multi_hot(candidates[rows], logits.shape[1])
    allowed[:, 0] = True
    wrong = (logits[rows].softmax(1) * ~allowed).sum(1)
    return -torch.log((1 - wrong).clamp(min=PROBABILITY_FLOOR)).mean()


def multi_hot(candidates: Tensor, num_classes: int) -> Tensor:
    """int64 [N] bit masks -> bool [N, C]."""
    return (candidates[:, None] >> torch.arange(num_classes, device=candidates.device)) & 1 == 1


def association(
    embedding_vox: Tensor, embedding_pix: Tensor, labels: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Walker and visit loss of association learning (Haeusser et al., CVPR 2017) from points to pixels and back.

    A = point embeddings of annotated voxels, B = pixel embeddings of points with an association target, over the whole
    batch; S = A Bᵀ / temperature; P_ab and P_ba are row softmaxes of S and Sᵀ. walker = KL(T ‖ P_ab P_ba) per row, T
    uniform over annotated voxels of the same class; visit = KL(uniform ‖ mean row of P_ab).

    Args:
        embedding_vox, embedding_pix: [N, D].
        labels: int64 [N], sparse labels (0 = not annotated).
        targets: int64 [N], association targets (0 = not a target).
    Returns (walker, visit).
    """
    annotated, targeted = labels != 0, targets != 0
    if not (bool(annotated.any()) and bool(targeted.any())):
        zero = _zero(embedding_vox) + _zero(embedding_pix)
        return zero, zero
    similarity = embedding_vox[annotated].float() @ embedding_pix[targeted].float().t() / temperature
    to_pixels, to_points = similarity.softmax(1), similarity.t().softmax(1)
    labels = labels[annotated]
    same = (labels[:, None] == labels[None]).to(similarity.dtype)
    walk = same / same.sum(1, keepdim=True)
    walker = F.kl_div(torch.log(to_pixels @ to_points + LOG_OFFSET), walk, reduction="batchmean")
    visited = to_pixels.mean(0)
    visit = F.kl_div(torch.log(visited + LOG_OFFSET), torch.full_like(visited, 1 / len(visited)), reduction="sum")
    return walker, visit


def _zero(x: Tensor) -> Tensor:
    """A zero that depends on `x`, so that every parameter has a gradient in every step (DDP waits for each)."""
    return x.sum() * 0.0
