"""Confusion matrices, IoUs, results.json and the tables printed from it."""

import json
import re

import numpy as np
import pytest

from core.errors import UserError
from core.scores.metrics import class_iou, confusion_matrix, mean_iou
from core.scores.results import SCOPES, class_table, read_rows, result_row, save_row, stage_table

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


NAMES = ("ignored", "barrier", "bicycle", "bus")


def row(checkpoint="RUN/checkpoints/max-iou-vox-val.pt", points="in_view", split="val", hits=(3, 1)):
    """Class 1 has 4 points, class 2 has 2, class 3 none; `hits` of them are right, the others taken for class 3."""
    confusion = np.zeros((4, 4), np.int64)
    confusion[1, [1, 3]] = hits[0], 4 - hits[0]
    confusion[2, [2, 3]] = hits[1], 2 - hits[1]
    confusions = {scope: confusion for scope in SCOPES}
    return result_row(checkpoint, split, points, 7, confusions, NAMES, {"torch": "x"})


def test_a_row_takes_the_place_of_an_earlier_one(tmp_path, monkeypatch):
    """Of the same checkpoint, under whatever name. The stage is that of the checkpoint's folder."""
    monkeypatch.chdir(tmp_path)
    assert read_rows("RUN/results.json") == []
    for changes in ({"hits": (1, 1)}, {"points": "all"}, {"split": "train"}, {"hits": (4, 2)}):
        save_row("RUN/results.json", row(**changes))
    for name in ("RUN/checkpoints_mstep_1/best.pt", "./RUN//checkpoints_mstep_1/best.pt", "elsewhere/best.pt"):
        save_row("RUN/results.json", row(name))
    rows = read_rows("RUN/results.json")
    assert [r["scores"]["vox/all"]["miou"] for r in rows] == [62.5, 62.5, 100.0, 62.5, 62.5]
    assert [r["stage"] for r in rows] == ["iteration 0", "iteration 0", "iteration 0", "iteration 2", ""]
    with open("RUN/results.json", encoding="utf-8") as file:
        json.load(file, parse_constant=pytest.fail)  # no NaN: other programs read it, too


def test_broken_file(tmp_path):
    (tmp_path / "results.json").write_text("[{")
    with pytest.raises(UserError, match=r"results\.json.*eval_miou\.py"):
        read_rows(str(tmp_path / "results.json"))
    assert (tmp_path / "results.json").read_text() == "[{"


def test_class_table():
    lines = class_table(row()).splitlines()
    assert re.split("  +", lines[0]) == ["IoU %", "point head, in view", "image head, in view", "point head, all"]
    assert lines[1].split() == ["barrier", "75.0", "75.0", "75.0"]
    assert lines[3].split() == ["bus", "-", "-", "-"]
    assert lines[4].split() == ["mean", "62.5", "62.5", "62.5"]
    assert "nearest predicted neighbour" in lines[5]
    assert "nearest" not in class_table(row(points="all"))


def test_class_table_says_where_most_points_are_out_of_view():
    found = row()
    found["scores"]["vox/all"]["confusion"] = (4 * np.array(found["scores"]["vox/in_view"]["confusion"])).tolist()
    assert "Only 25 % of the points are in view" in class_table(found)
    assert "Only" not in class_table(row())
    assert stage_table({"a": found, "b": found}).count("Only 25 % of the points are in view") == 1
    assert "Only" not in stage_table({"a": row()}) and "Only" not in stage_table({"a": {**found, "points": "all"}})


def test_stage_table():
    rows = {"weak labels alone": row(), "iteration 1": row(hits=(4, 2))}
    lines = stage_table(rows).splitlines()
    assert lines[1].split() == ["weak", "labels", "alone", "62.5", "62.5", "62.5"]
    assert lines[2].split() == ["iteration", "1", "100.0", "100.0", "100.0"]
    assert len({len(line) for line in lines}) == 1
