"""The weighted sum of the terms: the one place that adds them up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
        normalize: these are cosines of the embeddings.
        ramp: iterations over which the weight of the association rises; 0: it is whole from the first.
    """

    sparse: float = 1.0
    propagated: float = 1.0
    negative: float = 1.0
    pseudo: float = 0.0
    dense: float = 0.0
    association: float = 0.5
    visit: float = 0.5
    temperature: float = 0.5
    normalize: bool = False
    ramp: int = 0

    def at(self, iteration: int) -> "LossWeights":
        """The weights of an iteration k, counted from 0: below `ramp` the association's is (k + 1) / ramp of its own.

        It is never 0: its projections would have no gradient, for which DDP waits.
        """
        if iteration >= self.ramp:
            return self
        return replace(self, association=self.association * (iteration + 1) / self.ramp, ramp=0)

    def of_term(self, name: str) -> float:
        """The weight that a value of `loss_terms` has in the total; the total's own is 1."""
        others = {"total": 1.0, "walker": self.association, "visit": self.association * self.visit}
        return others[name] if name in others else getattr(self, name.split("/")[0])


@dataclass(frozen=True)
class Targets:
    """Labels of the M points of a batch, and which points have them, so that a GPU need not say how many there are.

    Attributes:
        labels: int64 [M] by name: "sparse", "propagated", "pseudo", "dense" classes (sparse labels override propagated
            ones already), "negative" bit masks of candidates.
        rows: int32 [n] by the same names, the points whose label is not 0; "association": those with an association
            target that a camera sees; "NAME/pix": those of NAME that a camera sees, where it does not see all of them.
    """

    labels: Mapping[str, Tensor]
    rows: Mapping[str, Tensor]

    def select(self, name: str, logits: Tensor, head: str = "vox") -> tuple[Tensor, Tensor]:
        """(logits [..., n, C], labels [n]) of the points that take part in a term of a head. Points that no camera sees
        take part in no image term."""
        rows = self.rows.get(f"{name}/{head}", self.rows[name])
        return logits.index_select(-2, rows), self.labels[name].index_select(0, rows)


def loss_terms(outputs: Outputs, targets: Targets, weights: LossWeights) -> dict[str, Tensor]:
    """All terms that have a weight, unweighted, and their weighted sum as "total".

    Names are LABEL/vox and LABEL/pix for the two heads (the latter where the network has it), "walker" and "visit".
    """
    result: dict[str, Tensor] = {}
    total = torch.zeros((), device=outputs.x_vox.device)
    heads = {"vox": outputs.x_vox} | ({} if outputs.x_pix is None else {"pix": outputs.x_pix})
    logits = torch.stack(list(heads.values())).float()
    for name in ("sparse", "propagated", "pseudo", "dense", "negative"):
        weight = getattr(weights, name)
        if weight:
            term = _of_heads(name, logits, tuple(heads), targets)
            result |= dict(zip((f"{name}/{head}" for head in heads), term.unbind(), strict=True))
            total = total + weight * term.sum()
    if weights.association:
        if outputs.embedding_vox is None or outputs.embedding_pix is None:
            raise ValueError("association loss needs a network with projections (model.proj_channel > 0)")
        annotated, labels = targets.select("sparse", outputs.embedding_vox)
        targeted = outputs.embedding_pix.index_select(0, targets.rows["association"])
        walker, visit = terms.association(annotated, targeted, labels, weights.temperature, weights.normalize)
        result |= {"walker": walker, "visit": visit}
        total = total + weights.association * (walker + weights.visit * visit)
    return {**result, "total": total}


def _of_heads(name: str, logits: Tensor, heads: tuple[str, ...], targets: Targets) -> Tensor:
    """A term of each head [h], from logits [h, M, C]: at once where the same points take part."""
    function = terms.negative if name == "negative" else terms.segmentation
    if f"{name}/pix" not in targets.rows:
        return function(*targets.select(name, logits))
    each = zip(logits.split(1), heads, strict=True)
    return torch.cat([function(*targets.select(name, values, head)) for values, head in each])
