"""Preparing a whole data set: the same bytes for any number of processes, resuming, refusing what is not ours."""

import glob
import json
import os
import signal
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from core.errors import UserError
from core.label_files.files import SUPERPIXEL, WEAK_LABEL, check_directory, read_superpixels, read_weak_label
from core.labeling.annotation.parameters import SuperpixelParameters, WeakLabelParameters
from core.labeling.over_data_set.jobs import SuperpixelJob, WeakLabelJob
from core.labeling.over_data_set.prepare import prepare
from core.running.workers import make_all
from tests.entry import contents
from tests.streets import Streets

WEAK = WeakLabelParameters(num_sweeps=1, small_component_class=3)
PIXELS = SuperpixelParameters(image_size=(32, 48), num_superpixels=20, num_levels=2, iterations=2)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Streets(tmp_path_factory.mktemp("streets"))


@pytest.fixture(scope="module")
def made(reader, tmp_path_factory):
    """Weak labels and superpixels made in one process: (directory, content) of each."""
    weak, pixels = str(tmp_path_factory.mktemp("w") / "weak"), str(tmp_path_factory.mktemp("s") / "seeds")
    prepare(WeakLabelJob(reader, weak, WEAK, 1))
    prepare(SuperpixelJob(reader, pixels, PIXELS))
    return {"weak": (weak, contents(weak)), "pixels": (pixels, contents(pixels))}


def test_directories_are_whole(reader, made):
    weak, content = made["weak"]
    assert sorted(content) == sorted([*(f"frame{i}.npz" for i in range(5)), "meta.json"])
    meta = check_directory(weak, WEAK_LABEL, reader.tokens(), {"parameters": WEAK, "seed": 1})
    label = read_weak_label(weak, "frame3", 3500, meta["parameters_hash"])
    assert set(label.sparse) == {0, 1, 2, 3} and meta["statistics"]["propagated_accuracy"] > 0.99
    pixels, content = made["pixels"]
    assert sorted(content) == sorted([*(f"frame{i}.npz" for i in range(5)), "meta.json"])
    meta = check_directory(pixels, SUPERPIXEL, reader.tokens(), {"parameters": PIXELS})
    assert meta["labels_of_opencv"] == "4.11.0" and "opencv" not in meta
    assert meta["statistics"] == {"frames": 5, "images": 10}
    maps = read_superpixels(pixels, "frame2", ["left_2", "right_2"], (32, 48), meta["parameters_hash"])
    assert all(len(np.unique(ids)) > 5 for ids in maps)


def test_two_workers_make_the_same_bytes(reader, made, tmp_path):
    prepare(WeakLabelJob(reader, str(tmp_path / "w"), WEAK, 1), num_workers=2)
    assert contents(tmp_path / "w") == made["weak"][1]
    prepare(SuperpixelJob(reader, str(tmp_path / "s"), PIXELS), num_workers=2)
    assert contents(tmp_path / "s") == made["pixels"][1]


def test_interrupted_run_is_resumed(reader, made, tmp_path, monkeypatch):
    directory = str(tmp_path / "w")

    def interrupt(self, path):
        if path == "3":
            raise KeyboardInterrupt
        return self.street(int(path))[0]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Streets, "load", interrupt)
        prepare(WeakLabelJob(reader, directory, WEAK, 1))
    assert sorted(os.listdir(directory)) == ["frame0.npz", "frame1.npz", "unfinished.json"]

    with pytest.raises(UserError, match=r"parameters.point_per_class = 1, now it is 2; remove .*another path"):
        prepare(WeakLabelJob(reader, directory, replace(WEAK, point_per_class=2), 1))
    (tmp_path / "w" / ".unfinished-abc").write_text("left by a killed process")
    prepare(WeakLabelJob(reader, directory, WEAK, 1))
    assert contents(directory) == made["weak"][1]


def test_lost_and_damaged_files_are_made_anew(reader, made, tmp_path):
    for kind, job in (
        ("weak", lambda d: WeakLabelJob(reader, d, WEAK, 1)),
        ("pixels", lambda d: SuperpixelJob(reader, d, PIXELS)),
    ):
        directory = str(tmp_path / kind)
        os.makedirs(directory)
        for name, content in made[kind][1].items():
            with open(os.path.join(directory, name), "wb") as file:
                file.write(content)
        files = sorted(glob.glob(directory + "/*[0-9].*"))
        os.remove(files[0])
        os.truncate(files[1], 100)
        os.replace(files[3], files[2])  # one frame under another's name, one lost
        prepare(job(directory))
        assert contents(directory) == made[kind][1]


def test_complete_directory_is_left_alone(reader, made, capsys, monkeypatch):
    directory, content = made["weak"]
    times = {name: os.stat(os.path.join(directory, name)).st_mtime_ns for name in content if name != "meta.json"}
    monkeypatch.setattr(Streets, "load", lambda self, path: pytest.fail("nothing should be read"))
    statistics = prepare(WeakLabelJob(reader, directory, WEAK, 1))
    assert contents(directory) == content
    assert all(os.stat(os.path.join(directory, name)).st_mtime_ns == t for name, t in times.items())
    printed = capsys.readouterr().out
    assert "all files were there already" in printed and "propagated accuracy 9" in printed
    assert statistics == json.loads(content["meta.json"])["statistics"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": replace(WEAK, grid_size=(4.0, 0.1))}, r"parameters.grid_size = \[5.0, 0.1\], now it is \[4.0"),
        ({"seed": 9}, "seed = 1, now it is 9"),
    ],
)
def test_other_parameters_are_refused_up_front(reader, made, change, words):
    arguments = {"parameters": WEAK, "seed": 1, **change}
    with pytest.raises(UserError, match=words):
        prepare(WeakLabelJob(reader, made["weak"][0], **arguments))


def test_superpixels_of_opencv(reader, made, tmp_path, monkeypatch):
    """The same pixels; another implementation or version does not go on with them."""
    import cv2

    directory, by_opencv = str(tmp_path / "s"), replace(PIXELS, implementation="opencv")
    prepare(SuperpixelJob(reader, directory, by_opencv))
    meta = check_directory(directory, SUPERPIXEL, reader.tokens(), {"parameters": by_opencv})
    assert meta["opencv"] == cv2.__version__
    for frame in reader:
        what = (frame.token, [camera.token for camera in frame.cameras], (32, 48))
        ours, theirs = (read_superpixels(folder, *what) for folder in (made["pixels"][0], directory))
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="parameters.implementation = opencv, now it is numba"):
        prepare(SuperpixelJob(reader, directory, PIXELS))
    monkeypatch.setattr(cv2, "__version__", "4.12.0")
    with pytest.raises(UserError, match=r"opencv = 4.11.*, now it is 4.12.0"):
        prepare(SuperpixelJob(reader, directory, by_opencv))


def test_foreign_files_are_refused(reader, tmp_path):
    (tmp_path / "frame0.npy").write_bytes(b"x")
    with pytest.raises(UserError, match=r"frame0.npy\); remove it or choose another path"):
        prepare(WeakLabelJob(reader, str(tmp_path), WEAK, 1))


def test_missing_packages_are_told_before_work(reader, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="4.11.0"))
    with pytest.raises(UserError, match="opencv-contrib-python-headless==4.11.0.86"):
        prepare(SuperpixelJob(reader, str(tmp_path / "s"), replace(PIXELS, implementation="opencv")))
    monkeypatch.setitem(sys.modules, "hdbscan", None)
    with pytest.raises(UserError, match="pip install hdbscan"):
        prepare(WeakLabelJob(reader, str(tmp_path / "w"), WEAK, 1))
    assert not os.path.exists(tmp_path / "w")


def test_error_in_a_worker_arrives(reader, tmp_path):
    with pytest.raises(UserError, match="no points in 2"):
        prepare(WeakLabelJob(Streets(tmp_path / "root", 4, broken="2"), str(tmp_path / "w"), WEAK, 1), num_workers=1)


class Dying:
    """A job that kills its process, as the kernel does where memory is short."""

    directory = "labels"

    def check_packages(self):
        pass

    def make(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_death_of_a_worker_is_told():
    with pytest.raises(UserError, match="labels: a worker process died.*fewer workers"):
        list(make_all(Dying(), range(3), 1))


def test_two_processes_where_deleted_files_stay_in_sight(reader, made, tmp_path, monkeypatch):
    """As on network disks: no files without a name, and what is open is listed after it is deleted."""
    deleted = []
    monkeypatch.setattr(tempfile, "_O_TMPFILE_WORKS", False)
    monkeypatch.setattr(os, "unlink", lambda path, **options: deleted.append(path))
    together = threading.Barrier(2)
    for _ in range(3):  # made, found whole, found whole
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda rank: prepare_part(reader, tmp_path / "w", rank, together.wait), range(2)))
    assert any("unfinished-" in path for path in deleted)
    assert {name: b for name, b in contents(tmp_path / "w").items() if name != ".lock"} == made["weak"][1]


def prepare_part(reader, directory, rank, barrier):
    return prepare(WeakLabelJob(reader, str(directory), WEAK, 1), rank=rank, world_size=2, barrier=barrier)
