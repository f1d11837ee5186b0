"""Cuts of a component that a person asks for."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.annotate.frames import Frames
from core.annotate.queue import Window
from core.annotate.requests import BadRequest, read_plane
from core.labeling.annotation.cuts import between
from core.labeling.annotation.journal import Cut

MAX_POINTS = 20_000
"""That the two centres are sought among."""


def cut_action(
    request: Mapping[str, Any], component: int, window: Window, cuts: Sequence[Cut], frames: Frames
) -> dict[str, Any]:
    """The line of a cut, without who and when.

    Args:
        request: "frame" and "plane", [a, b, c, d] in its coordinates; without a plane the component's points in that
            frame are parted into two clusters.
        cuts: of the window so far.

    Raises:
        BadRequest: all points lie on one side.
    """
    frame = request.get("frame")
    if frame not in window.frames:
        raise BadRequest("frame: expected one of the window's")
    if request.get("plane") is not None:
        plane = read_plane(request["plane"])
    else:
        opened = frames.open_cut(frame, window.frames, cuts)
        plane = between_two(opened.xyz[opened.rows(component)])
    poses = {token: frames.open(token).frame.to_world for token in window.frames}
    planes = {token: plane if token == frame else between(plane, poses[frame], poses[token]) for token in poses}
    cut = Cut(window.token, component, window.identity, planes)
    proposal = frames.open_cut(window.frames[0], window.frames, (*cuts, cut)).proposal
    if not proposal.sizes[-1] or not proposal.sizes[component]:
        raise BadRequest("the cut leaves all points on one side")
    return {"window": window.token, "component": component, "proposal": window.identity, "planes": planes}


def between_two(xyz: NDArray[np.floating]) -> tuple[float, ...]:
    """The plane (a, b, c, d) that parts points [N, 3] into the two clusters of k-means.

    Raises:
        BadRequest: there are no two different points.
    """
    from sklearn.cluster import KMeans

    points = np.asarray(xyz[:: -(-len(xyz) // MAX_POINTS) or 1], np.float64)
    if len(np.unique(points, axis=0)) < 2:
        raise BadRequest("too few points here to split them")
    first, second = KMeans(2, n_init=4, random_state=0).fit(points).cluster_centers_
    normal = second - first
    return (*map(float, normal), float(-normal @ (first + second) / 2))
