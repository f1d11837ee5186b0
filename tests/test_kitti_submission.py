"""SemanticKITTI's submissions: the round trip, and what the check refuses."""

import os
import zipfile

import numpy as np
import pytest

from core.datasets.semantic_kitti import SemanticKitti
from core.datasets.semantic_kitti.sequence import COUNTS, SPLITS
from core.errors import UserError
from tests.entry import logged
from tests.fake_kitti import write_sequence

NAMES = ["sequences/11/predictions/000000.label", "sequences/13/predictions/000000.label"]
PREDICTED = np.array([1, 9, 19, 5, 0], np.uint8)
RAW = [10, 40, 81, 20, 70]  # what no camera sees in a scan without a prediction is vegetation


@pytest.fixture
def submission(tmp_path):
    for name in ("11", "13"):
        write_sequence(tmp_path, name, labelled=False, scans=1)
    reader = SemanticKitti(str(tmp_path), "v1.0", "test", str(tmp_path / "index"))
    return reader, reader.open_submission(str(tmp_path / "out"))


def whole(submission):
    reader, writer = submission
    for frame in reader:
        writer.write(frame, PREDICTED)
    writer.finish()
    return writer


def zip_path(writer):
    return os.path.join(writer.directory, "submission.zip")


def rewrite(writer, change):
    """The zip with its entries {name: content} changed."""
    with zipfile.ZipFile(zip_path(writer)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(zip_path(writer), "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def test_round_trip(submission):
    writer = whole(submission)
    with zipfile.ZipFile(zip_path(writer)) as archive:
        assert archive.testzip() is None
        folders = [name for name in archive.namelist() if name.endswith("/")]
        parts = [f"sequences/{name}/{part}" for name in ("11", "13") for part in ("", "predictions/")]
        assert folders == ["sequences/", *parts]
        assert all(archive.getinfo(folder).is_dir() for folder in folders)
        assert archive.namelist()[len(folders) :] == NAMES
        for name in NAMES:
            assert np.frombuffer(archive.read(name), "<u4").tolist() == RAW
            assert np.fromfile(os.path.join(writer.directory, name), np.uint32).tolist() == RAW
    writer.check()


def test_part_of_the_sequences_is_refused_by_the_server(submission, monkeypatch):
    with logged() as lines:
        whole(submission)
    (warning,) = (line for line in lines if line.startswith("WARNING"))
    assert "submission.zip: sequence 11, 12, 13" in warning and "server" in warning
    for name in SPLITS["test"]:
        monkeypatch.setitem(COUNTS, name, 1 if name in ("11", "13") else 0)
    with logged() as lines:
        whole(submission)
    assert not any(line.startswith("WARNING") for line in lines)


def test_a_scan_without_a_prediction_is_told(submission):
    reader, writer = submission
    writer.write(reader.frame(0), PREDICTED)
    with pytest.raises(UserError, match=f"{NAMES[1]}: missing in the submission"):
        writer.finish()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: entries.pop(NAMES[1]), f"{NAMES[1]} is missing"),
        (lambda entries: entries.update({NAMES[0]: entries[NAMES[0]][:-4]}), "has 4 labels, its scan 5 points"),
        (lambda entries: entries.update({NAMES[0]: entries[NAMES[0]][:-1]}), "has 4.75 labels"),
        (lambda entries: entries.update({NAMES[0]: np.uint32([10, 40, 0, 20, 70]).tobytes()}), "holds label 0"),
        (lambda entries: entries.update({NAMES[0]: np.uint32([10, 40, 252, 20, 70]).tobytes()}), "holds label 252"),
        (
            lambda entries: entries.pop("sequences/13/predictions/"),
            "lacks the entry of folder sequences/13/predictions/",
        ),
        (lambda entries: entries.pop("sequences/"), "lacks the entry of folder sequences/"),
    ],
)
def test_a_faulty_zip_is_told(submission, change, message):
    writer = whole(submission)
    rewrite(writer, change)
    with pytest.raises(UserError, match=f"submission.zip: .*{message}"):
        writer.check()
