"""Several views of the same points, turned about z by quarters, over which predictions are averaged.

Quarter turns map the voxel grid onto itself: the voxels stay the same ones, and rows keep their order.
Images and pixel coordinates stay as they are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.models.two_branch import Outputs


@dataclass(frozen=True)
class View:
    """Turned about z by so many quarters, anticlockwise."""

    quarters: int = 0

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """What the network takes (see `TwoBranchNetwork.forward`), of this view."""
        if self == View():
            return inputs
        coords, feats = inputs["coords"].clone(), inputs["feats"].clone()
        for plane in (coords, feats):
            for _ in range(self.quarters % 4):
                plane[:, :2] = torch.stack([-plane[:, 1], plane[:, 0]], 1)
        coords[:, :2] -= _least(coords)
        return {**inputs, "coords": coords, "feats": feats, "coarser": ()}


def _least(coords: Tensor) -> Tensor:
    """int32 [M, 2]: the least x and y of each voxel's sample, so that all samples begin at 0 again."""
    sample = coords[:, 3:].long().expand(-1, 2)
    least = coords.new_zeros(int(coords[:, 3].max()) + 1, 2)
    return least.scatter_reduce(0, sample, coords[:, :2], "amin", include_self=False).gather(0, sample)


def make_views(turns: int) -> tuple[View, ...]:
    """So many quarter turns from 0 on."""
    return tuple(View(quarters) for quarters in range(turns))


def average(network: Callable[..., Outputs], inputs: dict[str, Any], views: Sequence[View]) -> Outputs:
    """The network's outputs of all views: logits whose softmax is the mean of theirs, and the mean of the features.

    Those of a single view are as the network gives them. Projections are left out of the mean of several.
    """
    first, *others = (network(**view(inputs)) for view in views)
    if not others:
        return first
    outputs = [first, *others]
    x_vox = _mean_logits([x.x_vox for x in outputs])
    images = [x.x_pix for x in outputs if x.x_pix is not None]
    features = torch.stack([x.features for x in outputs]).mean(0)
    return Outputs(x_vox, _mean_logits(images) if images else None, None, None, features)


def _mean_logits(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.float().log_softmax(1) for x in logits]).logsumexp(0) - math.log(len(logits))
