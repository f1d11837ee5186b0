"""What the page shows of a frame: points with their components, and where a component falls in the camera images."""

import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.datasets.projection import Projection
from core.labeling.annotation.clicks import checked_proposal
from core.labeling.annotation.cuts import cut_proposals
from core.labeling.annotation.journal import Cut
from core.labeling.annotation.proposals import Proposal

KEPT = 24
"""Frames that stay in memory; some 10 MB each."""
MAX_PIXELS = 4000
"""Points of a component that are drawn into an image."""
JPEG_QUALITY = 85


@dataclass(frozen=True, eq=False)
class OpenFrame:
    """A frame in memory.

    Attributes:
        xyz: float32 [N, 3], m, its sensor frame; 0 where a row is no point.
        projection: of its points.
    """

    frame: Frame
    xyz: NDArray[np.float32]
    proposal: Proposal
    projection: Projection

    def content(self) -> bytes:
        """uint32 N, float32 [N, 3], int32 [N] component (-1 = none), little-endian."""
        component = self.proposal.component.astype("<i4", copy=False)
        return struct.pack("<I", len(self.xyz)) + self.xyz.astype("<f4", copy=False).tobytes() + component.tobytes()

    def rows(self, component: int) -> NDArray[np.int64]:
        """Rows of a component's points."""
        return np.flatnonzero(self.proposal.component == component)

    def central_row(self, component: int) -> int:
        """The point nearest to the median of a component's points; -1 where it has none here."""
        rows = self.rows(component)
        if not len(rows):
            return -1
        xyz = self.xyz[rows]
        return int(rows[np.argmin(((xyz - np.median(xyz, 0)) ** 2).sum(1))])

    def pictures(self, component: int) -> list[dict[str, Any]]:
        """Cameras that see a component, the one that sees most of it first: {"camera": index, "name", "width",
        "height", "pixels": [u, v, u, v, ...]}."""
        rows = self.rows(component)
        found = []
        for k, view in enumerate(self.frame.cameras):
            seen = rows[self.projection.camera[rows] == k]
            if len(seen):
                drawn = seen[:: -(-len(seen) // MAX_PIXELS)]
                pixels = self.projection.pixel[drawn].round(1).ravel().tolist()
                size = {"width": view.width, "height": view.height}
                found.append((len(seen), {"camera": k, "name": view.name, **size, "pixels": pixels}))
        return [picture for _, picture in sorted(found, key=lambda pair: -pair[0])]


class Frames:
    """The frames of a reader, the latest ones in memory; any thread may ask."""

    def __init__(self, reader: Reader, directory: str, parameters_hash: str) -> None:
        self._reader, self._directory, self._hash = reader, directory, parameters_hash
        self._by_token = {frame.token: frame for frame in reader}
        self._open: OrderedDict[str, OpenFrame] = OrderedDict()
        self._lock = RLock()
        self._cut: dict[str, tuple[tuple[Cut, ...], list[Proposal]]] = {}

    def __contains__(self, token: str) -> bool:
        return token in self._by_token

    def open(self, token: str) -> OpenFrame:
        """A frame; UserError where its cloud is unreadable or has changed since its proposals were made."""
        with self._lock:
            if token not in self._open:
                self._open[token] = self._load(self._by_token[token])
                if len(self._open) > KEPT:
                    self._open.popitem(last=False)
            self._open.move_to_end(token)
            return self._open[token]

    def open_cut(self, token: str, window: Sequence[str], cuts: Sequence[Cut]) -> OpenFrame:
        """A frame after cuts of its window, whose frames are `window`."""
        if not cuts:
            return self.open(token)
        with self._lock:
            known, proposals = self._cut.get(window[0], ((), []))
            if known != tuple(cuts):
                opened = [self.open(other) for other in window]
                clouds = [frame.xyz for frame in opened]
                proposals = cut_proposals(window, [frame.proposal for frame in opened], clouds, cuts)
                self._cut[window[0]] = tuple(cuts), proposals
            return replace(self.open(token), proposal=proposals[list(window).index(token)])

    def _load(self, frame: Frame) -> OpenFrame:
        points = self._reader.load_points(frame)
        proposal = checked_proposal(self._directory, frame, points, self._hash)
        xyz = np.nan_to_num(points[:, :3], nan=0.0, posinf=0.0, neginf=0.0)
        return OpenFrame(frame, xyz, proposal, self._reader.project(frame, points))

    def image(self, token: str, camera: int) -> bytes:
        """A camera's image as JPEG."""
        import cv2

        image = self._reader.load_image(self._by_token[token].cameras[camera])
        content = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        return bytes(content.tobytes())
