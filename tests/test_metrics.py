"""Confusion matrices and IoUs, done by hand."""

import numpy as np
import pytest
import torch

from core.running import comm
from core.scores.metrics import class_iou, confusion_matrix, mean_iou

LABEL = np.array([1, 1, 1, 2, 2, 0, 0], np.uint8)
PREDICTION = np.array([1, 1, 2, 2, 0, 1, 2], np.uint8)


def test_confusion_matrix():
    expected = [[0, 1, 1, 0], [0, 2, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    matrix = confusion_matrix(LABEL, PREDICTION, 4)
    assert matrix.tolist() == expected and matrix.dtype == np.int64
    label = np.full(3, 250, np.uint8)  # many classes do not overflow
    assert confusion_matrix(label, label, 251)[250, 250] == 3
    assert confusion_matrix(label[:0], label[:0], 5).tolist() == np.zeros((5, 5)).tolist()


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [
        (LABEL, PREDICTION, [np.nan, 2 / 3, 1 / 3, np.nan]),  # an ignored prediction is a miss; 3 is absent
        (np.append(LABEL, 1), np.append(PREDICTION, 3), [np.nan, 2 / 4, 1 / 3, np.nan]),  # 3 is predicted only
        (np.append(LABEL, [0] * 9), np.append(PREDICTION, [1] * 9), [np.nan, 2 / 3, 1 / 3, np.nan]),  # no label
        ([1, 2], [1, 1], [np.nan, 0.5, 0.0, np.nan]),  # 2 is never hit
        ([], [], [np.nan] * 4),
    ],
)
def test_iou_by_hand(labels, predictions, expected):
    matrix = confusion_matrix(np.array(labels, np.uint8), np.array(predictions, np.uint8), 4)
    before = matrix.copy()
    np.testing.assert_array_equal(class_iou(matrix), expected)
    mean = mean_iou(matrix)
    assert np.isnan(mean) if not len(labels) else mean == pytest.approx(np.nanmean(expected))
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("backend", ["gloo", pytest.param("nccl", marks=pytest.mark.gpu)])
def test_several_processes_sum_where_their_backend_works(monkeypatch, tmp_path, backend):
    """NCCL takes GPU tensors alone; who sums counts need not think of it. (A group of one, told it is of two.)"""
    if backend == "nccl" and not torch.cuda.is_available():
        pytest.skip("NCCL needs a GPU")
    torch.distributed.init_process_group(backend, init_method=f"file://{tmp_path}/meet", world_size=1, rank=0)
    monkeypatch.setattr(comm.dist, "size", lambda: 2)
    try:
        for counts in (np.array([[1, 2**62], [3, 4]]), np.array([0.1, np.pi])):
            np.testing.assert_array_equal(comm.sum_over_processes(counts), counts)
    finally:
        torch.distributed.destroy_process_group()
