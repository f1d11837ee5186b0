"""How sure a network is of components: what an annotator should look at first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNCERTAINTY = "_uncertainty.npz"
"""End of the names of the files that hold a frame's."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Of the components of one frame that have points in it, in ascending order.

    Attributes:
        component: int64 [K], ids.
        points: int64 [K], points in this frame.
        label: uint8 [K], class that most of them are predicted to be.
        confidence: float64 [K], mean probability of the predicted classes.
        entropy: float64 [K], mean entropy of the predicted probabilities, as a share of the largest possible one.
        disagreement: float64 [K], share of the points that a camera sees for which both heads choose another class;
            NaN where there are none, or no image head.
        spread: float64 [K], share of the points that are predicted to be of another class than `label`.
    """

    component: NDArray[np.int64]
    points: NDArray[np.int64]
    label: NDArray[np.uint8]
    confidence: NDArray[np.float64]
    entropy: NDArray[np.float64]
    disagreement: NDArray[np.float64]
    spread: NDArray[np.float64]


def component_uncertainty(
    component: NDArray[np.int32],
    label: NDArray[np.uint8],
    confidence: NDArray[np.floating],
    entropy: NDArray[np.floating],
    differs: NDArray[np.bool_] | None,
    seen: NDArray[np.bool_],
    num_classes: int,
) -> Uncertainty:
    """Averages what is predicted of points over their components.

    Args:
        component: int32 [N], -1 = none.
        label, confidence, entropy: [N], of each point.
        differs: bool [N], the image head chooses another class; None without image head.
        seen: bool [N], a camera sees the point.
    """
    inside = component >= 0
    ids, of = np.unique(component[inside], return_inverse=True)
    of = of.ravel()
    count = np.bincount(of, minlength=len(ids))

    def mean(values: NDArray) -> NDArray[np.float64]:
        return np.bincount(of, values[inside], minlength=len(ids)) / np.maximum(count, 1)

    votes = np.bincount(of * num_classes + label[inside], minlength=len(ids) * num_classes).reshape(-1, num_classes)
    both = np.zeros(len(component)) if differs is None else seen.astype(float)
    looked_at = np.bincount(of, both[inside], minlength=len(ids))
    apart = np.bincount(of, (both * (differs if differs is not None else 0))[inside], minlength=len(ids))
    with np.errstate(invalid="ignore"):
        disagreement = apart / np.where(looked_at > 0, looked_at, np.nan)
    return Uncertainty(
        component=ids.astype(np.int64),
        points=count,
        label=votes.argmax(1).astype(np.uint8),
        confidence=mean(confidence),
        entropy=mean(entropy),
        disagreement=disagreement,
        spread=1 - votes.max(1) / np.maximum(count, 1) if len(ids) else np.zeros(0),
    )
