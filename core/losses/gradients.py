"""How strongly each term of the loss pulls at the features that all terms of a branch share."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from core.losses.total import LossWeights

BRANCHES = {"vox": "point", "pix": "image"}
"""The branch of each head; terms of no head are of both."""


def gradient_sizes(
    values: Mapping[str, Tensor],
    weights: LossWeights,
    features: Mapping[str, Tensor],
    scale: Callable[[Tensor], Tensor] = lambda value: value,
) -> dict[str, Tensor]:
    """Length of the gradient of each weighted term, and of the total, with respect to the features that the heads and
    projections of a branch read.

    It goes through these alone, so that a term costs little beside a backward pass, and no parameter's `.grad` changes.
    The graph stays for the backward pass.

    Args:
        values: of `loss_terms`, not weighted but for the total.
        weights: that they were added up with.
        features: {"point": ..., "image": ...} of this forward pass, or the first alone.
        scale: makes a value larger where half precision would lose its gradient (a gradient scaler's), and the lengths.
    Returns {BRANCH/TERM: length}, of the terms that reach the branch.
    """
    lengths = {}
    for name, value in values.items():
        head = name.partition("/")[2]
        reached = [BRANCHES[head]] if head else [*features]
        found = torch.autograd.grad(
            scale(weights.of_term(name) * value), [features[branch] for branch in reached], retain_graph=True
        )
        for branch, gradient in zip(reached, found, strict=True):
            lengths[f"{branch}/{name}"] = torch.linalg.vector_norm(gradient, dtype=torch.float32)
    return lengths
