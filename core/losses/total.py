"""The weighted sum of the terms: the one place that adds them up."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.losses import terms
from core.models.two_branch import Outputs


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; 0 leaves a term out. The defaults are those of pretraining.

    Attributes:
        sparse, propagated, pseudo, dense: cross-entropy + Lovász-softmax of both heads on these labels.
        negative: negative loss of both heads on candidates.
        association: weight of walker + visit * the visit loss.
        visit: see above.
        temperature: divides the similarities of the association.
    """

    sparse: float = 1.0
    propagated: float = 1.0
    negative: float = 1.0
    pseudo: float = 0.0
    dense: float = 0.0
    association: float = 0.5
    visit: float = 0.5
    temperature: float = 0.5


@dataclass(frozen=True)
class Targets:
    """Labels of the points of a batch, int64 [M], 0 = none.

    Attributes:
        sparse, propagated, pseudo, dense: classes; sparse labels override propagated ones already.
        candidates: bit masks.
        association: association targets.
        seen: bool, a camera sees the point. Points that none sees take part in no image term.
    """

    sparse: Tensor
    propagated: Tensor
    pseudo: Tensor
    dense: Tensor
    candidates: Tensor
    association: Tensor
    seen: Tensor


def loss_terms(outputs: Outputs, targets: Targets, weights: LossWeights, ignore_index: int = 0) -> dict[str, Tensor]:
    """All terms that have a weight, unweighted, and their weighted sum as "total".

    Names are LABEL/vox and LABEL/pix for the two heads, "walker" and "visit".
    """
    labels = {name: getattr(targets, name) for name in ("sparse", "propagated", "pseudo", "dense")}
    result: dict[str, Tensor] = {}
    total = torch.zeros((), device=outputs.x_vox.device)
    heads: dict[str, tuple[Tensor, Tensor | slice]] = {"vox": (outputs.x_vox.float(), slice(None))}
    if outputs.x_pix is not None:
        heads["pix"] = (outputs.x_pix.float(), targets.seen)
    for head, (logits, rows) in heads.items():
        logits = logits[rows]
        for name, label in labels.items():
            weight = getattr(weights, name)
            if weight:
                term = terms.segmentation(logits, label[rows], ignore_index)
                result[f"{name}/{head}"] = term
                total = total + weight * term
        if weights.negative:
            term = terms.negative(logits, targets.candidates[rows])
            result[f"negative/{head}"] = term
            total = total + weights.negative * term
    if weights.association:
        if outputs.embedding_vox is None or outputs.embedding_pix is None:
            raise ValueError("association loss needs a network with projections (model.proj_channel > 0)")
        walker, visit = terms.association(
            outputs.embedding_vox,
            outputs.embedding_pix,
            targets.sparse,
            targets.association * targets.seen,
            weights.temperature,
        )
        result |= {"walker": walker, "visit": visit}
        total = total + weights.association * (walker + weights.visit * visit)
    return {**result, "total": total}
