"""Scoring: from the network's outputs to predictions of points and confusion matrices."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.collate import Batch
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
        num_points: points in the LiDAR file.
    """

    index: int
    rows: NDArray[np.int64]
    labels: dict[str, NDArray[np.uint8]]
    evaluated: dict[str, NDArray[np.uint8]]
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
            {head: labels[head][voxel] for head in labels},
            {head: evaluated[head][voxel] for head in evaluated},
            batch.num_points[i],
        )
        begin += size


def confusion_in_view(outputs: Outputs, batch: Batch, reader: Reader, num_classes: int) -> NDArray[np.int64]:
    """Confusion matrices [2, C, C] of both heads (order of HEADS) on the points that a camera sees.

    With `dataset.annotate: all` that of the point head is on all points. A head that the network lacks has zeros.
    """
    counts = np.zeros((len(HEADS), num_classes, num_classes), np.int64)
    for prediction in predictions(outputs, batch):
        frame = reader.frame(prediction.index)
        label = reader.load_labels(frame, prediction.num_points)
        seen = seen_rows(prediction, reader)
        regions = {"vox": seen | (reader.annotate == "all"), "pix": seen}
        for head, found in prediction.labels.items():
            rows = regions[head]
            counts[HEADS.index(head)] += confusion_matrix(label[prediction.rows[rows]], found[rows], num_classes)
    return counts


def label_all_points(
    prediction: FramePrediction, labels: NDArray[np.uint8], xyz: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Labels of all points of a frame: those that did not take part get their nearest predicted neighbour's.

    Args:
        prediction: the frame's.
        labels: uint8 [P], of the points that took part.
        xyz: float32 [N, 3], all points of the frame (m).
    Returns uint8 [N]; 0 everywhere where no point took part.
    """
    result = np.zeros(prediction.num_points, np.uint8)
    result[prediction.rows] = labels
    others = np.setdiff1d(np.arange(prediction.num_points), prediction.rows, assume_unique=True)
    if len(others) and len(prediction.rows):
        from scipy.spatial import cKDTree

        _, nearest = cKDTree(xyz[prediction.rows]).query(xyz[others])
        result[others] = labels[nearest]
    return result


def seen_rows(prediction: FramePrediction, reader: Reader) -> NDArray[np.bool_]:
    """bool [P]: which of the points that took part a camera sees."""
    if len(prediction.rows) < prediction.num_points:
        return np.ones(len(prediction.rows), bool)  # dataset.points is in_view: only these took part
    if not reader.has_cameras:
        return np.zeros(len(prediction.rows), bool)
    frame = reader.frame(prediction.index)
    return reader.project(frame, reader.load_points(frame)).seen[prediction.rows]
