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


def test_confusion_matrix_of_many_classes_does_not_overflow():
    label = np.full(3, 250, np.uint8)
    assert confusion_matrix(label, label, 251)[250, 250] == 3
    assert confusion_matrix(label[:0], label[:0], 5).tolist() == np.zeros((5, 5)).tolist()


def test_iou_by_hand():
    """Class 1: 2 hits of 3, no false one. Class 2: 1 hit, 1 false one, 1 point taken for ignored (a miss)."""
    iou = class_iou(confusion_matrix(LABEL, PREDICTION, 4))
    np.testing.assert_array_equal(iou, [np.nan, 2 / 3, 1 / 3, np.nan])


def test_absent_class_is_left_out_of_the_mean():
    matrix = confusion_matrix(LABEL, PREDICTION, 4)
    assert mean_iou(matrix) == pytest.approx(0.5)
    predicted_only = confusion_matrix(np.append(LABEL, 1), np.append(PREDICTION, 3), 4)
    np.testing.assert_array_equal(class_iou(predicted_only), [np.nan, 2 / 4, 1 / 3, np.nan])


def test_points_without_label_do_not_count():
    matrix = confusion_matrix(LABEL, PREDICTION, 4)
    more = confusion_matrix(np.append(LABEL, [0] * 9), np.append(PREDICTION, [1] * 9), 4)
    np.testing.assert_array_equal(class_iou(matrix), class_iou(more))


def test_a_class_that_is_never_hit_counts_as_zero():
    matrix = confusion_matrix(np.array([1, 2]), np.array([1, 1]), 3)
    np.testing.assert_array_equal(class_iou(matrix), [np.nan, 0.5, 0.0])


def test_nothing_labelled():
    assert np.isnan(mean_iou(np.zeros((4, 4), np.int64)))


def test_inputs_are_left_alone():
    matrix = confusion_matrix(LABEL, PREDICTION, 4)
    before = matrix.copy()
    mean_iou(matrix)
    np.testing.assert_array_equal(matrix, before)


def test_one_process_sums_nothing():
    counts = np.array([3, 2**62])
    assert comm.sum_over_processes(counts) is counts


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
