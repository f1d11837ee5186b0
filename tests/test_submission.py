"""Predictions on disk and the submissions of nuScenes and SemanticKITTI: the round trip, what the checks refuse."""

import json
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.datasets.nuscenes import CLASSES
from core.datasets.nuscenes import submission as nuscenes_submission
from core.datasets.nuscenes.submission import FALLBACK_CLASS, LidarsegSubmission
from core.datasets.semantic_kitti import SemanticKitti
from core.datasets.semantic_kitti.sequence import COUNTS, SPLITS
from core.errors import UserError
from core.scores.predictions import PredictionWriter
from tests.entry import logged
from tests.fake_kitti import write_sequence
from tests.helpers import refused

SIZES = {"a": 5, "b": 7}
NAMES = ["sequences/11/predictions/000000.label", "sequences/13/predictions/000000.label"]
PREDICTED = np.array([1, 9, 19, 5, 0], np.uint8)
RAW = [10, 40, 81, 20, 70]  # what no camera sees in a scan without a prediction is vegetation


class Reader:
    """Two frames of nuScenes' test split."""

    classes, name, version, split = CLASSES, "nuscenes", "v1.0-test", "test"

    def __len__(self):
        return len(SIZES)

    def __iter__(self):
        return (SimpleNamespace(token=token) for token in SIZES)

    def load_points(self, frame):
        return np.zeros((SIZES[frame.token], 4), np.float32)


READER: Any = Reader()


def warnings_of(writer, predicted):
    """Writes all frames; what is warned of when the submission is finished."""
    for frame, labels in predicted:
        writer.write(frame, labels)
    with logged() as lines:
        writer.finish()
    return [line for line in lines if line.startswith("WARNING")]


@pytest.fixture
def lidarseg(tmp_path, monkeypatch):
    """A whole submission; what was said of a data set in part."""
    predicted = [(frame, np.arange(1, SIZES[frame.token] + 1, dtype=np.uint8)) for frame in READER]
    (warning,) = warnings_of(LidarsegSubmission(str(tmp_path), READER), predicted)
    assert "labels of 2 key frames; the benchmark's server wants all 6008" in warning
    monkeypatch.setattr(nuscenes_submission, "TEST_FRAMES", 2)
    writer = LidarsegSubmission(str(tmp_path), READER)
    assert warnings_of(writer, predicted) == []
    return writer, tmp_path


def test_tree(lidarseg):
    writer, folder = lidarseg
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"lidarseg/test/a_lidarseg.bin", "lidarseg/test/b_lidarseg.bin", "test/submission.json"}
    np.testing.assert_array_equal(np.fromfile(folder / "lidarseg/test/b_lidarseg.bin", np.uint8), np.arange(1, 8))
    meta = json.loads((folder / "test/submission.json").read_text())["meta"]
    assert meta == {"use_camera": True, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}
    writer.write(next(iter(READER)), np.array([0, 3, 0, 16, 1], np.uint8))  # no point is left without a class
    labels = np.fromfile(folder / "lidarseg/test/a_lidarseg.bin", np.uint8)
    assert labels.tolist() == [FALLBACK_CLASS, 3, FALLBACK_CLASS, 16, 1]
    writer.check()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        *(
            ("lidarseg/test/b_lidarseg.bin", bytes(labels), "b_lidarseg.bin: expected 7 labels of 1..16")
            for labels in ([1] * 6, [1] * 8, [1, 0, 0, 0] * 7, [1, 2, 3, 0, 1, 1, 1], [1, 2, 3, 17, 1, 1, 1], [])
        ),
        ("lidarseg/test/b_lidarseg.bin", None, "b_lidarseg.bin: missing"),
    ],
)
def test_bad_files_are_found(lidarseg, name, content, words):
    writer, folder = lidarseg
    os.remove(folder / name)
    if content is not None:
        (folder / name).write_bytes(content)
    refused(writer.check, words)


def test_predictions(tmp_path):
    writer = PredictionWriter(str(tmp_path / "predictions"), READER)
    writer.write("a", np.array([0, 3, 5, 16, 1], np.uint8))
    writer.finish("RUN/checkpoints/best.pt")
    assert np.fromfile(tmp_path / "predictions/a.bin", np.uint8).tolist() == [0, 3, 5, 16, 1]
    meta = json.loads((tmp_path / "predictions/meta.json").read_text())
    assert meta["checkpoint"] == "RUN/checkpoints/best.pt" and meta["classes"] == list(CLASSES.names)
    assert (meta["dataset"], meta["version"], meta["split"]) == ("nuscenes", "v1.0-test", "test")
    (tmp_path / "file").write_text("")
    for kind in (PredictionWriter, LidarsegSubmission):
        with pytest.raises(UserError, match="cannot be made"):
            kind(str(tmp_path / "file/predictions"), READER)


@pytest.fixture
def kitti(tmp_path):
    """The reader of two sequences, and a submission without predictions."""
    for name in ("11", "13"):
        write_sequence(tmp_path, name, labelled=False, scans=1)
    reader = SemanticKitti(str(tmp_path), "v1.0", "test", str(tmp_path / "index"))
    return reader, reader.open_submission(str(tmp_path / "out"))


def zip_path(writer):
    return Path(writer.directory) / "submission.zip"


def test_round_trip_of_a_zip(kitti, monkeypatch):
    reader, writer = kitti
    (warning,) = warnings_of(writer, [(frame, PREDICTED) for frame in reader])
    assert "submission.zip: sequence 11, 12, 13" in warning and "server" in warning
    for name in SPLITS["test"]:
        monkeypatch.setitem(COUNTS, name, 1 if name in ("11", "13") else 0)
    assert warnings_of(writer, [(frame, PREDICTED) for frame in reader]) == []
    with zipfile.ZipFile(zip_path(writer)) as archive:
        assert archive.testzip() is None
        folders = ["sequences/", *(f"sequences/{n}/{part}" for n in ("11", "13") for part in ("", "predictions/"))]
        assert archive.namelist() == [*folders, *NAMES]
        assert all(archive.getinfo(folder).is_dir() for folder in folders)
        for name in NAMES:
            assert np.frombuffer(archive.read(name), "<u4").tolist() == RAW
            assert np.fromfile(os.path.join(writer.directory, name), np.uint32).tolist() == RAW


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.uint32(RAW[:-1]).tobytes(), "has 4 labels, its scan 5 points"),
        (np.uint32(RAW).tobytes()[:-1], "has 4.75 labels"),
        (np.uint32([10, 40, 0, 20, 70]).tobytes(), "holds label 0"),
        (np.uint32([10, 40, 252, 20, 70]).tobytes(), "holds label 252"),
    ],
)
def test_a_faulty_file_is_not_zipped(kitti, content, words):
    reader, writer = kitti
    writer.write(reader.frame(0), PREDICTED)
    refused(writer.finish, f"{NAMES[1]} cannot be read")
    warnings_of(writer, [(frame, PREDICTED) for frame in reader])
    (Path(writer.directory) / NAMES[0]).write_bytes(content)
    refused(writer.finish, f"{NAMES[0]}: {words}")
