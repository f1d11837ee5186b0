"""Scoring: from the network's outputs to predictions of points and confusion matrices."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.collate import Batch
from core.datasets.point_checks import is_valid
from core.metrics import confusion_matrix
from core.models.two_branch import Outputs

HEADS = ("vox", "pix")
"""The point head and the image head."""


@dataclass(frozen=True)
class FramePrediction:
    """Predictions of one frame's points that took part.

    Attributes:
        index: the frame's position in the data set.
        rows: int64 [P], rows in the LiDAR file, ascending.
        labels: {head: uint8 [P]} argmax over all classes; every point takes its voxel's.
        evaluated: {head: uint8 [P]} argmax over all classes but the ignored one, as submissions need.
        seen: bool [P], whether a camera sees the point.
        num_points: points in the LiDAR file.
    """

    index: int
    rows: NDArray[np.int64]
    labels: dict[str, NDArray[np.uint8]]
    evaluated: dict[str, NDArray[np.uint8]]
    seen: NDArray[np.bool_]
    num_points: int


def predictions(outputs: Outputs, batch: Batch, ignore_index: int = 0) -> Iterator[FramePrediction]:
    """The predictions of each frame of a batch."""
    logits = {"vox": outputs.x_vox.detach().float()}
    if outputs.x_pix is not None:
        logits["pix"] = outputs.x_pix.detach().float()
    labels, evaluated = {}, {}
    for head, values in logits.items():
        labels[head] = values.argmax(1).cpu().numpy().astype(np.uint8)
        values = values.clone()
        values[:, ignore_index] = -np.inf
        evaluated[head] = values.argmax(1).cpu().numpy().astype(np.uint8)
    begin = 0
    for i, size in enumerate(batch.sizes):
        voxel = batch.point_voxel[i].numpy() + begin
        yield FramePrediction(
            batch.indices[i],
            batch.point_rows[i].numpy(),
            {head: label[voxel] for head, label in labels.items()},
            {head: label[voxel] for head, label in evaluated.items()},
            batch.point_seen[i].numpy(),
            batch.num_points[i],
        )
        begin += size


def confidences(outputs: Outputs, batch: Batch) -> Iterator[NDArray[np.float32]]:
    """float32 [P] of each frame of a batch: the probability (softmax) of the class that the point head chooses."""
    highest = torch.softmax(outputs.x_vox.detach().float(), 1).amax(1).cpu().numpy()
    begin = 0
    for size, voxel in zip(batch.sizes, batch.point_voxel, strict=True):
        yield highest[voxel.numpy() + begin]
        begin += size


def confusion_in_view(outputs: Outputs, batch: Batch, reader: Reader, num_classes: int) -> NDArray[np.int64]:
    """Confusion matrices [2, C, C] of both heads (order of HEADS) on the points that a camera sees.

    With `dataset.annotate: all` that of the point head is on all points. A head that the network lacks has zeros.
    """
    counts = np.zeros((len(HEADS), num_classes, num_classes), np.int64)
    for prediction in predictions(outputs, batch):
        frame = reader.frame(prediction.index)
        label = reader.load_labels(frame, prediction.num_points)
        regions = {"vox": prediction.seen | (reader.annotate == "all"), "pix": prediction.seen}
        for head, found in prediction.labels.items():
            rows = regions[head]
            counts[HEADS.index(head)] += confusion_matrix(label[prediction.rows[rows]], found[rows], num_classes)
    return counts


def label_all_points(prediction: FramePrediction, labels: NDArray[Any], xyz: NDArray[np.float32]) -> NDArray[Any]:
    """Labels of all points of a frame: those that did not take part get their nearest predicted neighbour's, what is no
    point (see `is_valid`) 0.

    Args:
        prediction: the frame's.
        labels: [P], of the points that took part (or their confidences).
        xyz: float32 [N, 3], all points of the frame (m).
    Returns [N] of the labels' type; 0 everywhere where no point took part.
    """
    return of_all_points(prediction.rows, labels, xyz)


def of_all_points(rows: NDArray[np.int64], values: NDArray[Any], xyz: NDArray[np.float32]) -> NDArray[Any]:
    """As `label_all_points`, of values [P] of the points `rows`."""
    result = np.zeros(len(xyz), values.dtype)
    result[rows] = values
    others = np.setdiff1d(np.flatnonzero(is_valid(xyz)), rows, assume_unique=True)
    if len(others) and len(rows):
        from scipy.spatial import cKDTree

        _, nearest = cKDTree(xyz[rows]).query(xyz[others])
        result[others] = values[nearest]
    return result
