"""PandaSet through its importer: a made-up scene in its files, and the real one where it is at hand."""

import gzip
import json
import os
import pickle
import sys
import types

import numpy as np
import pytest
from PIL import Image

from core.datasets.recordings import Recordings
from core.datasets.recordings.importers.pickles import read_table
from core.errors import UserError
from tests.entry import ROOT, run_script

REAL = os.path.join(ROOT, "..", "shared", "data", "pandaset")
TURN = {"w": np.cos(0.5), "x": 0.0, "y": 0.0, "z": np.sin(0.5)}  # 1 rad about z
POINTS = np.array([[10.0, 0, 1], [4, 1, 0], [-3, 2, 1]])  # in the sensor's frame
INTRINSICS = {"fx": 100, "fy": 100, "cx": 80, "cy": 40}


@pytest.fixture
def pandas_1(monkeypatch):
    """Writes tables as pandas 1.0 pickled them."""
    classes = {}
    for module, names in {
        "pandas.core.frame": ["DataFrame"],
        "pandas.core.internals.managers": ["BlockManager"],
        "pandas.core.indexes.base": ["Index", "_new_Index"],
        "pandas.core.indexes.range": ["RangeIndex"],
    }.items():
        space = types.ModuleType(module)
        for name in names:
            kind = {"__module__": module, "__qualname__": name, "__getstate__": lambda self: self.state}
            classes[name] = type(name, (), kind)
            setattr(space, name, classes[name])
        monkeypatch.setitem(sys.modules, module, space)
    for module in ("pandas", "pandas.core", "pandas.core.internals", "pandas.core.indexes"):
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))

    def write(path, columns):
        class Index:
            def __reduce__(self):
                return classes["_new_Index"], (
                    classes["Index"],
                    {"data": np.array(list(columns), object), "name": None},
                )

        def frame(kind, state):
            made = classes[kind]()
            made.state = state
            return made

        names = list(columns)
        halves = [[n for n in names if columns[n].dtype.kind == kind] for kind in "fi"]
        blocks = [
            {"values": np.stack([columns[n] for n in half]), "mgr_locs": np.array([names.index(n) for n in half])}
            for half in halves
            if half
        ]
        state = ([], [], [], {"0.14.1": {"axes": [Index()], "blocks": blocks}})
        table = frame("DataFrame", {"_data": frame("BlockManager", state), "_typ": "dataframe"})
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with gzip.open(path, "wb") as file:
            pickle.Pickler(file, protocol=4).dump(table)

    return write


def write_scene(root, write_table, frames=2):
    """The sensor stands at (100, 50, 2), turned; the camera looks along its x, from 1 m before it."""
    folder = os.path.join(root, "042")
    turn = np.array([[np.cos(1), -np.sin(1), 0], [np.sin(1), np.cos(1), 0], [0, 0, 1]])
    world = POINTS @ turn.T + (100, 50, 2)
    numbers = {"x": world[:, 0], "y": world[:, 1], "z": world[:, 2], "i": np.array([5.0, 6, 7]), "t": np.ones(3)}
    for i in range(frames):
        write_table(f"{folder}/lidar/{i:02d}.pkl.gz", {**numbers, "d": np.array([0, 0, 1])})
        write_table(f"{folder}/annotations/semseg/{i:02d}.pkl.gz", {"class": np.array([7, 13, 41])})
        os.makedirs(f"{folder}/camera/front", exist_ok=True)
        Image.fromarray(np.zeros((80, 160, 3), np.uint8)).save(f"{folder}/camera/front/{i:02d}.jpg")
    pose = {"position": {"x": 100, "y": 50, "z": 2}, "heading": TURN}
    # camera axes (x right, y down, z ahead) in the sensor's frame, then turned with it
    q = np.array([0.5, -0.5, 0.5, -0.5])
    w, z = TURN["w"], TURN["z"]
    both = [w * q[0] - z * q[3], w * q[1] - z * q[2], w * q[2] + z * q[1], w * q[3] + z * q[0]]
    ahead = np.array([100, 50, 2]) + turn @ [1, 0, 0]
    camera = {"position": dict(zip("xyz", ahead, strict=True)), "heading": dict(zip("wxyz", both, strict=True))}
    for path, content in {
        "lidar/poses.json": [pose] * frames,
        "lidar/timestamps.json": [0.1 * i for i in range(frames)],
        "camera/front/poses.json": [camera] * frames,
        "camera/front/intrinsics.json": INTRINSICS,
    }.items():
        with open(f"{folder}/{path}", "w") as file:
            json.dump(content, file)
    return folder


def test_a_scene_comes_back(pandas_1, tmp_path, capsys):
    write_scene(tmp_path / "source", pandas_1)
    command = ["import_recording", tmp_path / "source", tmp_path / "dest", "--from", "pandaset"]
    run_script(*command, "--lidar", "spinning")
    assert "10 files written" in capsys.readouterr().out
    reader = Recordings(str(tmp_path / "dest"), "v1", "train")
    assert reader.tokens() == ["042_00", "042_01"] and reader.classes.num_classes == 15
    frame = reader.frame(0)
    points = reader.load_points(frame)
    np.testing.assert_allclose(points, np.column_stack([POINTS[:2], [5, 6]]), atol=1e-5)  # the forward LiDAR's is gone
    labels = reader.load_labels(frame, 2)
    assert [reader.classes.names[label] for label in labels] == ["road", "car"]
    # before the camera, which stands 1 m ahead: u to the right of y, v below z
    expected = [[80 - 100 * y / (x - 1), 40 - 100 * z / (x - 1)] for x, y, z in POINTS[:2]]
    np.testing.assert_allclose(reader.project(frame, points).pixel, expected, atol=1e-3)

    os.remove(tmp_path / "dest/042/lidar/01.bin")  # interrupted
    run_script(*command)
    assert "1 files written, the others were there" in capsys.readouterr().out
    with pytest.raises(UserError, match="imported with lidar spinning, now it is both"):
        run_script(*command, "--lidar", "both")


def test_what_is_broken_is_named(pandas_1, tmp_path):
    folder = write_scene(tmp_path, pandas_1)
    with gzip.open(f"{folder}/lidar/00.pkl.gz", "wb") as file:
        pickle.dump(os.system, file)
    with pytest.raises(UserError, match="00.pkl.gz: no table of numbers .it asks for (posix|nt).system"):
        read_table(f"{folder}/lidar/00.pkl.gz")
    with open(f"{folder}/lidar/01.pkl.gz", "rb") as file:
        whole = file.read()
    with open(f"{folder}/lidar/01.pkl.gz", "wb") as file:
        file.write(whole[:-20])
    for path, words in ((f"{folder}/lidar/01.pkl.gz", "01.pkl.gz"), (f"{folder}/lidar/02.pkl.gz", "cannot be read")):
        with pytest.raises(UserError, match=words):
            read_table(path)
    with pytest.raises(UserError, match="no PandaSet scene"):
        run_script("import_recording", tmp_path / "none", tmp_path / "dest", "--from", "pandaset")
