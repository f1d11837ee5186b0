"""Packing downloads of Waymo Open v2, what is told of other releases, classes and directions of beams.

That what is packed is read as it stands in the download, test_waymo.py tests.
"""

import os
import re
import shutil
import sys
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest

import prepare_waymo
from core.datasets.waymo import CLASSES, Waymo, pack
from core.datasets.waymo.components import IMAGE, LABELS, LIDAR, POSE, PROJECTION
from core.datasets.waymo.pack import pack_split
from core.datasets.waymo.range_image import beam_inclinations, column_azimuths
from core.errors import UserError
from tests.fake_waymo import LABELLED, SEGMENTS, TIMES, edit, matrix, write_fake_waymo
from tests.helpers import refused


@pytest.fixture(scope="module")
def download(tmp_path_factory):
    """As it comes: the whole segment in one row group."""
    folder = tmp_path_factory.mktemp("download")
    write_fake_waymo(folder, test=True, group=1000)
    return folder


def open_reader(root, num_sweeps=0, split="train"):
    return Waymo(str(root), "v2", split, f"{root}_index", num_sweeps)


def files(folder):
    """{path below: bytes}."""
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), folder)] = file.read()
    return found


def test_downloads_are_refused_with_the_command(download):
    with pytest.raises(
        UserError, match=rf"lidar/1000.*: row groups of up to 6 rows.*prepare_waymo.py --download {download} --root DIR"
    ):
        open_reader(download)


def test_only_what_frames_need_is_kept_a_row_a_group(download, tmp_path, capsys):
    pack_split(str(download), str(tmp_path / "data"), "train")
    rows = {LIDAR: 2, POSE: 2, PROJECTION: 2, LABELS: 2, IMAGE: 10}
    for component, number in rows.items():
        file = pq.ParquetFile(tmp_path / f"data/training/{component}/{SEGMENTS[0]}.parquet")
        assert file.metadata.num_rows == file.metadata.num_row_groups == number, component
        assert set(file.read(columns=["key.frame_timestamp_micros"]).column(0).to_pylist()) == set(LABELLED)
    whole = f"vehicle_pose/{SEGMENTS[0]}.parquet"
    assert files(tmp_path / "data/training")[whole] == files(download / "training")[whole]
    said = re.search(r"training: 4 frames of 2 segments, about (\d.\d\d) GB", capsys.readouterr().out)
    assert said and said[1] == "0.00"


def test_an_interrupted_packing_goes_on(download, tmp_path, monkeypatch, capsys):
    pack_split(str(download), str(tmp_path / "whole"), "train", num_sweeps=1)
    packed = []

    def interrupted(source, target, component, rows):
        if len(packed) == 7:
            raise KeyboardInterrupt
        packed.append(target)
        return pack_file(source, target, component, rows)

    pack_file = pack.pack_file
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pack, "pack_file", interrupted)
        pack_split(str(download), str(tmp_path / "data"), "train", num_sweeps=1)
    with pytest.raises(UserError, match=r"data/training: packing it was interrupted; run python3 prepare_waymo.py"):
        open_reader(tmp_path / "data")
    times = {path: os.stat(path).st_mtime_ns for path in packed}
    pack_split(str(download), str(tmp_path / "data"), "train", num_sweeps=1)
    assert {path: os.stat(path).st_mtime_ns for path in packed} == times
    assert files(tmp_path / "data") == files(tmp_path / "whole")
    capsys.readouterr()
    pack_split(str(download), str(tmp_path / "data"), "train", num_sweeps=1)
    assert "all files were there already" in capsys.readouterr().out


def test_earlier_turns(download, tmp_path):
    pack_split(str(download), str(tmp_path / "data"), "train", num_sweeps=1)
    frame = open_reader(tmp_path / "data", num_sweeps=1).frame(1)
    assert [sweep.turn.range_row for sweep in frame.sweeps] == [1]  # of three turns, all are there
    with pytest.raises(UserError, match=r"num_sweeps is 2, but .*training was packed with 1 earlier.*--num-sweeps 2"):
        open_reader(tmp_path / "data", num_sweeps=2)
    with pytest.raises(UserError, match="packed with 1 earlier turns a frame, now it is 2"):
        pack_split(str(download), str(tmp_path / "data"), "train", num_sweeps=2)


def test_bad_folders(download, tmp_path):
    with pytest.raises(UserError, match="the same folder as --download"):
        pack_split(str(download), f"{download}/", "train")
    (tmp_path / "training").mkdir()
    (tmp_path / "training/notes.txt").touch()
    with pytest.raises(
        UserError, match=r"training: holds files of something else \(notes.txt\); choose another --root"
    ):
        pack_split(str(download), str(tmp_path), "train")
    (tmp_path / "training/packed.json").write_text("{")
    with pytest.raises(UserError, match=r"packed.json: not readable"):
        pack_split(str(download), str(tmp_path), "train")


def test_the_command(download, tmp_path):
    words = ["--download", str(download), "--root", str(tmp_path / "data"), "--splits", "val", "test"]
    with patch.object(sys, "argv", ["prepare_waymo.py", *words]), pytest.raises(UserError, match="needs --test-frames"):
        prepare_waymo.main()
    more = ["--test-frames", f"{download}/test_frames.txt", "--num-workers", "0"]
    with patch.object(sys, "argv", ["prepare_waymo.py", *words, *more]):
        prepare_waymo.main()
    assert len(open_reader(tmp_path / "data", split="val")) == 2
    reader = Waymo(str(tmp_path / "data"), "v2", "test", f"{tmp_path}/index", 0, f"{download}/test_frames.txt")
    assert {frame.timestamp for frame in reader} == set(TIMES[:2])


def test_part_of_a_download(download, tmp_path):
    """Of what is missing the option is named; with it the whole segments are packed, and further ones later."""
    shutil.copytree(download, tmp_path / "download")
    image = tmp_path / f"download/training/camera_image/{SEGMENTS[0]}.parquet"
    image.rename(tmp_path / "later.parquet")
    words = ["--download", str(tmp_path / "download"), "--root", str(tmp_path / "data"), "--splits", "train"]
    words += ["--num-workers", "0"]
    with patch.object(sys, "argv", ["prepare_waymo.py", *words]), pytest.raises(UserError, match="--frames available"):
        prepare_waymo.main()
    with patch.object(sys, "argv", ["prepare_waymo.py", *words, "--frames", "available"]):
        prepare_waymo.main()
    assert {frame.scene for frame in open_reader(tmp_path / "data")} == {SEGMENTS[1]}
    (tmp_path / "later.parquet").rename(image)
    with patch.object(sys, "argv", ["prepare_waymo.py", *words, "--frames", "available"]):
        prepare_waymo.main()
    assert {frame.scene for frame in open_reader(tmp_path / "data")} == set(SEGMENTS)


def test_nulls_are_refused(download, tmp_path):
    shutil.copytree(download, tmp_path / "download")
    path = tmp_path / f"download/training/lidar/{SEGMENTS[1]}.parquet"

    def spoil(columns):
        columns["[LiDARComponent].range_image_return2.values"][5][7] = None

    edit(path, spoil)
    with pytest.raises(UserError, match=r"lidar/2000.*nulls in \[LiDARComponent\].range_image_return2.values.*again"):
        pack_split(str(tmp_path / "download"), str(tmp_path / "data"), "train")


def test_directions():
    np.testing.assert_allclose(beam_inclinations(None, -0.4, 0.4, 4), [0.3, 0.1, -0.1, -0.3])
    np.testing.assert_array_equal(beam_inclinations(np.array([-0.2, 0.0, 0.3]), 0, 0, 3), [0.3, 0.0, -0.2])
    np.testing.assert_allclose(column_azimuths(4, np.eye(4)), np.radians([135, 45, -45, -135]))
    turned = matrix(np.array([0, 0, np.pi / 2, 0, 0, 0]))
    np.testing.assert_allclose(column_azimuths(4, turned), np.radians([45, -45, -135, -225]))


def test_classes():
    assert CLASSES.num_classes == 23 == len(np.unique(CLASSES.colors, axis=0)) and CLASSES.names[0] == "ignored"
    chosen = [CLASSES.names[c] for c in (1, 8, 13, 14, 18, 22)]
    assert chosen == ["car", "sign", "motorcycle", "building", "road", "sidewalk"]
    assert CLASSES.things == (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13)


def test_other_release(tmp_path):
    (tmp_path / "training").mkdir()
    opened = {"root": tmp_path, "split": "train"}
    refusals = [
        ({}, "training holds none of Waymo Open v2's components: download its folders lidar"),
        ({"root": tmp_path / "nowhere"}, "nowhere is not a folder"),
        ({"split": "trian"}, "no split 'trian' (it has: train, val, test)"),
        ({}, "camera_labels.tfrecord is of Waymo Open v1: download the Parquet files of v2"),
    ]
    for changes, words in refusals:
        if "v1" in words:
            (tmp_path / "training/segment-1_with_camera_labels.tfrecord").touch()
        keys = opened | changes
        refused(lambda keys=keys: Waymo(str(keys["root"]), "v2", keys["split"], str(tmp_path / "index")), words)
