"""Confusion matrices and what is read off them. Pure functions."""

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]
IGNORED = 0
"""The class that does not count: label files, losses and scores agree on it."""


def confusion_matrix(label: IntArray, prediction: IntArray, num_classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: row = label, column = prediction."""
    flat = label.astype(np.int64) * num_classes + prediction
    return np.bincount(flat.ravel(), minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class [C]; NaN for the ignored class and for classes without ground truth.

    Points whose label is ignored do not count; predicting the ignored class is a miss.
    """
    counted = confusion.copy()
    counted[IGNORED] = 0
    hits, labels, predictions = np.diag(counted), counted.sum(1), counted.sum(0)
    iou = np.full(len(counted), np.nan)
    present = labels > 0
    iou[present] = hits[present] / (labels + predictions - hits)[present]
    return iou


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean over the classes with ground truth; NaN where there is none."""
    iou = class_iou(confusion)
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
