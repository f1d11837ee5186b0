"""Samples -> one batch of tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.datasets.file_points import PER_POINT, BatchPoints, join_points
from core.datasets.sample import Sample
from core.sparse.coordinates import STRIDES, Coarser, coarser_sets

TENSORS = (
    "coords",
    "feats",
    "images",
    "image_index",
    "pixel",
    "sparse_label",
    "propagated_label",
    "pseudo_label",
    "dense_label",
    "asso_target",
    "candidates",
)
LABELS = ("sparse_label", "propagated_label", "pseudo_label", "dense_label", "asso_target", "candidates")
WIDENED = ("image_index", *LABELS)
"""Tensors that travel from the workers in few bytes and are int64 where the network is."""
LABELLED = {
    "sparse": "sparse_label",
    "propagated": "propagated_label",
    "pseudo": "pseudo_label",
    "dense": "dense_label",
    "negative": "candidates",
}
"""Names of the losses' labels, and of the tensors that hold them."""
MOST_TENSORS = len(TENSORS) + 2 * len(LABELLED) + 1 + 2 * len(STRIDES) + len(PER_POINT)
"""Of a batch: rows of each label by head, and of the association, and two tensors of each coarser set among them."""


@dataclass
class Batch:
    """B samples side by side, M voxels in all; the voxels of a sample are consecutive.

    As `collate` makes it, a batch holds class ids as uint8, candidates as int32 and image_index as int16; `to` makes
    them int64 on the device.

    Attributes:
        coords: int32 [M, 4], voxel x, y, z (minimum 0 in each sample) and position of the sample in the batch.
        feats: float32 [M, C], as in `Sample`.
        images: uint8 [B, K, 3, H, W], RGB; [1, I, 3, H, W], those of all samples, where their numbers differ.
        image_index: [M], the image, of the B * K or I, that sees the voxel; -1 for none.
        pixel: float32 [M, 2], (u, v) in [-1, 1] in that image; 0 where there is none.
        sparse_label, propagated_label, pseudo_label, dense_label, asso_target: [M], class ids, 0 = none.
        candidates: [M], bit c set where class c is a candidate.
        sizes: voxels per sample.
        tokens: frame tokens.
        indices: positions of the frames in the data set.
        labelled: int32 [n] by name, the voxels that take part in a loss (see `losses.Targets`).
        coarser: the voxel sets at strides 2, 4, 8, 16 (see `sparse.coordinates`).
        points: all points of the LiDAR files, for E-step and scores; None in training.
    """

    coords: torch.Tensor
    feats: torch.Tensor
    images: torch.Tensor
    image_index: torch.Tensor
    pixel: torch.Tensor
    sparse_label: torch.Tensor
    propagated_label: torch.Tensor
    pseudo_label: torch.Tensor
    dense_label: torch.Tensor
    asso_target: torch.Tensor
    candidates: torch.Tensor
    sizes: list[int]
    tokens: list[str]
    indices: list[int]
    labelled: dict[str, torch.Tensor]
    coarser: list[Coarser]
    points: BatchPoints | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch with all tensors on `device`, labels and image_index as int64."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return replace(moved, **{name: getattr(moved, name).long() for name in WIDENED})

    def pin_memory(self) -> "Batch":
        """The batch with all tensors in page-locked memory."""
        return self._map(torch.Tensor.pin_memory)

    def tensors(self) -> list[torch.Tensor]:
        """All tensors of the batch."""
        found: list[torch.Tensor] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            found.append(tensor)
            return tensor

        self._map(note)
        return found

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        tensors: dict[str, Any] = {name: function(getattr(self, name)) for name in TENSORS}
        tensors["labelled"] = {name: function(rows) for name, rows in self.labelled.items()}
        tensors["coarser"] = [(function(coords), function(parent)) for coords, parent in self.coarser]
        return replace(self, **tensors, points=self.points and self.points.map(function))


def labelled_rows(
    labels: Mapping[str, NDArray[Any]], asso_target: NDArray[Any], seen: NDArray[np.bool_]
) -> dict[str, torch.Tensor]:
    """Which voxels take part in each loss, counted here, so that a GPU need not be asked.

    Args:
        labels: [M] by name of LABELLED, 0 = none.
        asso_target: [M] association targets, 0 = none.
        seen: [M], a camera sees the voxel.
    Returns int32 [n] by name, as `losses.Targets` takes them.
    """
    rows = {name: np.flatnonzero(label) for name, label in labels.items()}
    rows["propagated"] = np.flatnonzero(labels["propagated"].astype(bool) | labels["sparse"].astype(bool))
    rows["association"] = np.flatnonzero(asso_target.astype(bool) & seen)
    if not seen.all():
        rows |= {f"{name}/pix": rows[name][seen[rows[name]]] for name in labels}
    return {name: torch.from_numpy(found.astype(np.int32)) for name, found in rows.items()}


def collate(samples: Sequence[Sample]) -> Batch:
    """Puts samples with equally large images into one batch."""
    sizes = [len(sample) for sample in samples]
    points = [sample.points for sample in samples if sample.points is not None]
    num_images = [len(sample.images) for sample in samples]
    first_image = np.repeat(np.cumsum([0, *num_images[:-1]], dtype=np.int16), sizes)
    together = np.stack if len(set(num_images)) == 1 else lambda images: np.concatenate(images)[None]
    batch_index = np.repeat(np.arange(len(samples), dtype=np.int16), sizes)
    camera = _joined(samples, "camera")
    coords = torch.from_numpy(np.column_stack([_joined(samples, "coords"), batch_index.astype(np.int32)]))
    labels = {name: _joined(samples, field) for name, field in LABELLED.items()}
    return Batch(
        coords=coords,
        feats=torch.from_numpy(_joined(samples, "feats")),
        images=torch.from_numpy(together([sample.images for sample in samples])),
        image_index=torch.from_numpy(np.where(camera >= 0, first_image + camera, np.int16(-1))),
        pixel=torch.from_numpy(_joined(samples, "pixel")),
        **{name: torch.from_numpy(_joined(samples, name)) for name in LABELS if name != "candidates"},
        candidates=torch.from_numpy(_joined(samples, "candidates").view(np.int32)),  # fewer than 31 classes
        sizes=sizes,
        tokens=[sample.token for sample in samples],
        indices=[sample.index for sample in samples],
        labelled=labelled_rows(labels, _joined(samples, "asso_target"), camera >= 0),
        coarser=coarser_sets(coords),
        points=join_points(points, sizes) if points else None,
    )


def _joined(samples: Sequence[Sample], name: str) -> NDArray[Any]:
    """A per-voxel field of all samples."""
    return np.concatenate([getattr(sample, name) for sample in samples])
