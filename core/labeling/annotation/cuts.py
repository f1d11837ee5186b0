"""Components that a person cut in two."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.labeling.annotation.journal import Cut
from core.labeling.annotation.proposals import Proposal


def cut_proposals(
    tokens: Sequence[str], proposals: Sequence[Proposal], clouds: Sequence[NDArray[np.floating]], cuts: Sequence[Cut]
) -> list[Proposal]:
    """The proposals of a window's frames after some cuts, one after the other.

    Of a component, the points in front of the plane become a new one, which takes the next free id; the others keep
    theirs.

    Args:
        tokens, proposals, clouds: of all frames of the window; clouds [N, >= 3], m, as the reader gives them.
        cuts: of this window and these proposals.
    """
    first = len(proposals[0].sizes)
    components = [proposal.component.copy() for proposal in proposals]
    for part, cut in enumerate(cuts, first):
        for token, component, cloud in zip(tokens, components, clouds, strict=True):
            if token in cut.planes:
                plane = np.array(cut.planes[token])
                rows = np.flatnonzero(component == cut.component)
                front = cloud[rows, :3].astype(np.float64) @ plane[:3] + plane[3] > 0
                component[rows[front]] = part
    count = first + len(cuts)
    sizes = sum(np.bincount(component[component >= 0], minlength=count) for component in components)
    parents = (*proposals[0].parents, *(cut.component for cut in cuts))
    return [
        replace(proposal, component=component, sizes=np.asarray(sizes, np.int64), parents=parents)
        for proposal, component in zip(proposals, components, strict=True)
    ]


def between(
    plane: Sequence[float], own_to_world: NDArray[np.float64] | None, other_to_world: NDArray[np.float64] | None
) -> tuple[float, ...]:
    """A plane (a, b, c, d) of one frame in another one's coordinates; as it is where poses are unknown.

    Args:
        own_to_world, other_to_world: float64 [4, 4], see `Frame.to_world`.
    """
    if own_to_world is None or other_to_world is None:
        return tuple(map(float, plane))
    return tuple(map(float, np.asarray(plane, np.float64) @ np.linalg.inv(own_to_world) @ other_to_world))
