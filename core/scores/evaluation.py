"""Scoring: from the network's outputs to labels of points and confusion matrices, all on the network's device."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.datasets.file_points import BatchPoints
from core.loader.collate import Batch
from core.models.two_branch import Outputs

HEADS = ("vox", "pix")
"""The point head and the image head."""


class ConfusionCounts:
    """Confusion matrices that are counted on a device and read once, at the end.

    Args:
        shape: of the stack of matrices, such as (heads,).
        num_classes: C.
        device: where labels and predictions are.
    """

    def __init__(self, shape: tuple[int, ...], num_classes: int, device: torch.device | str):
        self.num_classes = num_classes
        self.counts = torch.zeros(*shape, num_classes, num_classes, dtype=torch.int64, device=device)

    def add(self, index: int, label: Tensor, prediction: Tensor, counted: Tensor) -> None:
        """Counts the points of one batch in matrix `index`: row = label, column = prediction.

        Args:
            label, prediction: uint8 [T].
            counted: bool [T], the points that count.
        """
        cell = label.int() * self.num_classes + prediction.int()
        self.counts[index].view(-1).index_add_(0, cell, counted.long())

    def numpy(self) -> NDArray[np.int64]:
        """The counts so far, [*shape, C, C]."""
        return self.counts.cpu().numpy()


def values_of_points(values: Tensor, points: BatchPoints) -> Tensor:
    """[T]: every point takes the value of its voxel, 0 where it has none.

    Args:
        values: [M], of the voxels of the batch.
    """
    return torch.cat([values, values.new_zeros(1)])[points.voxel]


def labels_of_points(label: Tensor, points: BatchPoints) -> Tensor:
    """uint8 [T]: `values_of_points` of labels, integers [M]."""
    return values_of_points(label.to(torch.uint8), points)


def by_frame(values: Tensor, points: BatchPoints) -> list[NDArray[Any]]:
    """Values [T] of a batch's points, on the host, frame by frame."""
    return np.split(values.cpu().numpy(), np.cumsum(points.sizes)[:-1])


def choices(logits: Tensor, without: int | None = None) -> Tensor:
    """int64 [M], the class of the largest of logits [M, C]; `without` a class, as submissions need."""
    logits = logits.float()
    if without is not None:
        logits = logits.clone()
        logits[:, without] = -torch.inf
    return logits.argmax(1)


def confidences(logits: Tensor) -> Tensor:
    """float32 [M], the probability (softmax) of the class of the largest of logits [M, C]."""
    return torch.softmax(logits.float(), 1).amax(1)


def batch_points(batch: Batch) -> BatchPoints:
    """The batch's points of LiDAR files; ValueError for a batch of training samples, which brings none."""
    if batch.points is None:
        raise ValueError("samples of mode 'eval' or 'estep' are needed: training samples have no points to score")
    return batch.points


def head_labels(outputs: Outputs, points: BatchPoints) -> dict[str, Tensor]:
    """{head: uint8 [T]}: the heads' choices for all points; without a head whose logits were not asked for."""
    logits = {"vox": outputs.x_vox, "pix": outputs.x_pix}
    return {head: labels_of_points(choices(x), points) for head, x in logits.items() if x is not None}


def count_in_view(
    counts: ConfusionCounts, labels: dict[str, Tensor], points: BatchPoints, everywhere: bool = False
) -> None:
    """Counts what the heads say (in the order of HEADS) of the points that a camera sees.

    Args:
        everywhere: the point head's are counted on all points that have a voxel.
    """
    for head, label in labels.items():
        counted = points.voxel >= 0 if everywhere and head == "vox" else points.seen
        counts.add(HEADS.index(head), points.label, label, counted & points.labelled)
