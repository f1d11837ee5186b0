"""Nothing that is done per frame costs in proportion to the data set; a data set's files are listed, not opened.

`benchmarks/many_files.py` shows it with all files of nuScenes.
"""

import os
import shutil

import pytest

from core import builder
from core.label_files.files import BrokenFile, check_directory, label_path, write_meta
from core.labeling.over_data_set.jobs import WeakLabelJob
from core.labeling.over_data_set.prepare import prepare
from core.running.files import absent_files, why_absent
from tests.audit import watched
from tests.fake_labels import fake_config, write_all_superpixels, write_weak_labels
from tests.fake_nuscenes import write_fake_nuscenes
from tests.streets import Streets
from tests.test_builder import PRETRAIN
from tests.test_label_files import READER
from tests.test_labeling_prepare import WEAK

MANY = 100_000


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A label directory of many files: links to a few empty ones."""
    folder = tmp_path_factory.mktemp("many")
    write_meta(str(folder), "weak_label", {}, 1, READER, {})
    tokens = [f"{i:032x}" for i in range(MANY)]
    for i, token in enumerate(tokens):
        if i % 50_000 == 0:  # file systems limit the links of a file
            source = folder / f"source{i}"
            source.touch()
        os.link(source, label_path(folder, "weak_label", token))
    yield folder, tokens
    shutil.rmtree(folder)


def test_a_directory_is_checked_by_one_listing(many):
    folder, tokens = many
    with watched(folder) as counts:
        check_directory(str(folder), "weak_label", tokens)
    assert counts == {"meta.json": 1, "listed": 1}
    with pytest.raises(BrokenFile, match=r"x\.npz: no weak label file here; make it with"):
        check_directory(str(folder), "weak_label", [*tokens, "x"])


@pytest.mark.parametrize("num_frames", [2, 5])
def test_preparation_lists_its_directory_as_often_for_any_number_of_frames(tmp_path, num_frames):
    reader, folder = Streets(tmp_path / "streets", num_frames), tmp_path / "w"
    with watched(folder) as counts:
        prepare(WeakLabelJob(reader, str(folder), WEAK, 1))
    assert counts["listed"] == 3  # what is there, and what a killed process left (glob counts twice)
    assert all(counts[f"frame{i}.npz"] <= 2 for i in range(num_frames))  # is it there? what are its statistics?


@pytest.mark.parametrize("first", [True, False])
def test_one_process_checks_the_label_files(tmp_path, monkeypatch, first):
    """None opens any; the others do not even list them."""
    write_fake_nuscenes(tmp_path / "nuscenes")
    config = fake_config(PRETRAIN, tmp_path)
    reader = builder.make_reader(config, "train")
    write_weak_labels(config, reader)
    write_all_superpixels(config, reader)
    waited = []
    monkeypatch.setattr(builder.loader.dist, "is_master", lambda: first)
    monkeypatch.setattr(builder.dataset, "barrier", lambda: waited.append(1))
    for folder in ("sparse_label_path", "superpixel"):
        with watched(tmp_path / folder) as counts:
            dataset = builder.make_dataset(config, reader, "train")
        assert counts == ({"meta.json": 1, "listed": 1} if first else {"meta.json": 1})
        with watched(tmp_path / folder) as counts:
            dataset[0]
        assert counts["listed"] == 0 and max(counts.values()) == 1
    assert len(waited) == 4


def test_absent_files(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").touch()
    os.symlink(tmp_path / "a/file", tmp_path / "a/link")
    os.symlink(tmp_path / "disk/file", tmp_path / "a/dead")
    os.symlink(tmp_path / "disk", tmp_path / "b")
    os.mkfifo(tmp_path / "a/pipe")
    names = ["a/none", "a/file", "a/link", "a/dead", "a/pipe", "a", "b/file", "a/dead"]
    absent = [f"{tmp_path}/{name}" for name in ("a/none", "a/dead", "a/pipe", "a", "b/file")]
    found = absent_files(f"{tmp_path}/{name}" for name in names)
    assert sorted(found) == sorted(absent) and found[0] == absent[0]
    reasons = [why_absent(path).replace(str(tmp_path), "") for path in absent]
    assert reasons == [
        "is missing",
        "is a dead link to /disk/file (is that disk mounted?)",
        "is no file",
        "is no file",
        "is missing, /b being a dead link to /disk (is that disk mounted?)",
    ]
    monkeypatch.chdir(tmp_path / "a")
    assert absent_files(["file", "none"]) == ["none"] and absent_files([]) == []
