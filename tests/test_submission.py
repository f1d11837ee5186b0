"""Predictions and submissions on disk."""

import json
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.datasets.nuscenes import CLASSES
from core.datasets.nuscenes import submission as nuscenes_submission
from core.datasets.nuscenes.submission import FALLBACK_CLASS, LidarsegSubmission
from core.errors import UserError
from core.scores.predictions import PredictionWriter
from tests.entry import logged

SIZES = {"a": 5, "b": 7}


class Reader:
    """Two frames of the test split."""

    classes, name, version, split = CLASSES, "nuscenes", "v1.0-test", "test"

    def __len__(self):
        return len(SIZES)

    def __iter__(self):
        return (SimpleNamespace(token=token) for token in SIZES)

    def load_points(self, frame):
        return np.zeros((SIZES[frame.token], 4), np.float32)


READER: Any = Reader()


def test_part_of_the_test_split_is_refused_by_the_server(tmp_path, monkeypatch):
    def warnings():
        writer = LidarsegSubmission(str(tmp_path), READER)
        for frame in READER:
            writer.write(frame, np.ones(SIZES[frame.token], np.uint8))
        with logged() as lines:
            writer.finish()
        return [line for line in lines if line.startswith("WARNING")]

    (warning,) = warnings()
    assert "labels of 2 key frames; the benchmark's server wants all 6008" in warning
    monkeypatch.setattr(nuscenes_submission, "TEST_FRAMES", 2)
    assert warnings() == []


@pytest.fixture
def submission(tmp_path):
    """A whole submission."""
    writer = LidarsegSubmission(str(tmp_path), READER)
    for frame in READER:
        writer.write(frame, np.arange(1, SIZES[frame.token] + 1, dtype=np.uint8))
    writer.finish()
    return writer


def bin_file(submission, token="b"):
    return os.path.join(submission.directory, "lidarseg", "test", f"{token}_lidarseg.bin")


def test_tree(submission):
    found = {
        os.path.relpath(os.path.join(folder, name), submission.directory)
        for folder, _, names in os.walk(submission.directory)
        for name in names
    }
    assert found == {"lidarseg/test/a_lidarseg.bin", "lidarseg/test/b_lidarseg.bin", "test/submission.json"}
    np.testing.assert_array_equal(np.fromfile(bin_file(submission), np.uint8), np.arange(1, 8))
    with open(os.path.join(submission.directory, "test/submission.json"), encoding="utf-8") as file:
        meta = json.load(file)["meta"]
    assert meta == {"use_camera": True, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}


def test_no_point_is_left_without_a_class(submission):
    submission.write(next(iter(READER)), np.array([0, 3, 0, 16, 1], np.uint8))
    labels = np.fromfile(bin_file(submission, "a"), np.uint8)
    assert labels.tolist() == [FALLBACK_CLASS, 3, FALLBACK_CLASS, 16, 1]
    submission.check()


@pytest.mark.parametrize(
    "content",
    [
        np.ones(6, np.uint8),
        np.ones(8, np.uint8),
        np.ones(7, np.int32),
        np.array([1, 2, 3, 0, 1, 1, 1], np.uint8),
        np.array([1, 2, 3, 17, 1, 1, 1], np.uint8),
        np.zeros(0, np.uint8),
    ],
    ids=["short", "long", "wide", "zero", "no-class", "empty"],
)
def test_bad_files_are_found(submission, content):
    content.tofile(bin_file(submission))
    with pytest.raises(UserError, match=r"b_lidarseg\.bin: expected 7 labels of 1\.\.16"):
        submission.check()


def test_missing_file_is_found(submission):
    os.remove(bin_file(submission))
    with pytest.raises(UserError, match=r"b_lidarseg\.bin: missing"):
        submission.check()
    with pytest.raises(UserError, match="missing"):
        submission.finish()


def test_predictions(tmp_path):
    writer = PredictionWriter(str(tmp_path / "predictions"), READER)
    writer.write("a", np.array([0, 3, 5, 16, 1], np.uint8))
    writer.finish("RUN/checkpoints/best.pt")
    assert np.fromfile(tmp_path / "predictions/a.bin", np.uint8).tolist() == [0, 3, 5, 16, 1]
    meta = json.loads((tmp_path / "predictions/meta.json").read_text())
    assert meta["checkpoint"] == "RUN/checkpoints/best.pt" and meta["classes"] == list(CLASSES.names)
    assert (meta["dataset"], meta["version"], meta["split"]) == ("nuscenes", "v1.0-test", "test")


@pytest.mark.parametrize("kind", [PredictionWriter, LidarsegSubmission])
def test_folder_that_cannot_be_made(tmp_path, kind):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        kind(str(tmp_path / "file/predictions"), READER)
