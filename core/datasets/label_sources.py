"""Where the labels of samples come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import Frame
from core.label_files.files import ANNOTATED_IGNORED, WeakLabel, read_pseudo_label, read_superpixels, read_weak_label


class StoredLabels(NamedTuple):
    """Labels of all N points of a LiDAR file: uint8 [N], 0 = none; candidates uint32 [N]; the weak label as read."""

    sparse: NDArray[np.uint8]
    propagated: NDArray[np.uint8]
    candidates: NDArray[np.uint32]
    pseudo: NDArray[np.uint8]
    weak: WeakLabel | None


@dataclass(frozen=True)
class LabelSources:
    """Folders to take labels from; None: labels 0, no file opened.

    Attributes:
        weak_label_dir, superpixel_dir, pseudo_label_dir: the folders. Association targets need both of the first two.
        hashes: {folder: hash in its meta.json}; a file that carries another is refused.
    """

    weak_label_dir: str | None = None
    superpixel_dir: str | None = None
    pseudo_label_dir: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def read(self, token: str, num_points: int) -> StoredLabels:
        """The labels of a frame of `num_points` points. Raises UserError where a file is missing or does not fit."""
        none, weak = np.zeros(num_points, np.uint8), None
        sparse = propagated = pseudo = none
        candidates = np.zeros(num_points, np.uint32)
        if self.weak_label_dir is not None:
            weak = read_weak_label(self.weak_label_dir, token, num_points, self.hashes.get(self.weak_label_dir))
            sparse = np.where(weak.sparse == ANNOTATED_IGNORED, np.uint8(0), weak.sparse)
            propagated, candidates = weak.propagated, weak.point_candidates()
        if self.pseudo_label_dir is not None:
            identity = self.hashes.get(self.pseudo_label_dir)
            pseudo = read_pseudo_label(self.pseudo_label_dir, token, num_points, identity)
        return StoredLabels(sparse, propagated, candidates, pseudo, weak)

    def superpixels(self, frame: Frame, size: tuple[int, int]) -> NDArray[np.uint16] | None:
        """uint16 [K, H, W] of the frame's images at `size` = (H, W); None without a folder."""
        if self.superpixel_dir is None:
            return None
        cameras = [view.token for view in frame.cameras]
        return read_superpixels(self.superpixel_dir, frame.token, cameras, size, self.hashes.get(self.superpixel_dir))
