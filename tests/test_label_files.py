"""Label files: what is written is read, and every kind of bad file is told with its name and the mending command."""

import json
import os
import pickle
import shutil
import zipfile
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.label_files import files
from core.label_files.files import BrokenFile, ForeignFile, WeakLabel, check_directory, read_meta
from tests.helpers import refused

SIZE = (18, 32)
CAMERAS = ["left", "right"]
COMMANDS = {
    "weak": "python3 prepare_sparse_label.py",
    "superpixel": "python3 prepare_nusc_superpixel.py",
    "pseudo": "python3 train_lc_estep_nusc.py",
}
PSEUDO = np.arange(1000).astype(np.uint8)


def weak_label(num_components=3):
    rng = np.random.default_rng(0)
    return WeakLabel(
        sparse=np.where(rng.random(1000) < 0.01, rng.integers(1, 17, 1000), 0).astype(np.uint8),
        propagated=rng.integers(0, 17, 1000).astype(np.uint8),
        component=rng.integers(-1, 3, 1000).astype(np.int32),
        candidates=np.array([0, 0b110, 1 << 22], np.uint32)[:num_components],
    )


def superpixels():
    """Noise up to the largest id; laid out by columns in memory."""
    ids = np.asfortranarray(np.random.default_rng(0).integers(0, 65536, (2, *SIZE)))
    ids[1, 0, 0] = 65535
    return ids


def write_all(directory, token="frame", parameters="hash"):
    """One file of each kind; returns {kind: (path, reading function)}."""
    folders = {kind: str(directory / kind) for kind in COMMANDS}
    files.write_weak_label(folders["weak"], token, weak_label(), {"sparse": 0.5}, parameters)
    files.write_superpixels(folders["superpixel"], token, CAMERAS, superpixels(), parameters)
    files.write_pseudo_label(folders["pseudo"], token, PSEUDO, parameters)
    readers = {
        "weak": files.read_weak_label,
        "superpixel": partial(files.read_superpixels, cameras=CAMERAS, size=SIZE),
        "pseudo": files.read_pseudo_label,
    }
    return {
        kind: (directory / kind / f"{token}.npz", partial(read, folders[kind], token)) for kind, read in readers.items()
    }


def failing(error_type, kind, path, read, *words):
    """Checks that reading fails with one line that holds the file's name, the command and `words`."""
    refused(read, os.path.basename(path), COMMANDS[kind], *words)
    with pytest.raises(error_type):
        read()


def test_what_is_written_comes_back(tmp_path):
    written = write_all(tmp_path / "deep", "é")
    read = written["weak"][1](num_points=1000, parameters_hash="hash")
    for name, value in vars(weak_label()).items():
        np.testing.assert_array_equal(getattr(read, name), value)
        assert getattr(read, name).dtype == value.dtype
    assert files.read_weak_label_statistics(str(tmp_path / "deep/weak"), "é") == {"sparse": 0.5}
    ids = written["superpixel"][1](parameters_hash="hash")
    np.testing.assert_array_equal(ids, superpixels())
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(written["pseudo"][1](num_points=1000), PSEUDO)
    again = write_all(tmp_path / "again", "é")
    assert all(path.read_bytes() == again[kind][0].read_bytes() for kind, (path, _) in written.items())
    for bad in (np.full((2, 4, 4), 65536), np.full((2, 4, 4), -1), np.zeros((4, 4), int)):
        with pytest.raises(ValueError, match="65535"):
            files.write_superpixels(str(tmp_path), "t", CAMERAS, bad, "h")


def keep(length):
    """Cuts a file after `length` bytes (a share of them; negative: of its end)."""

    def cut(path):
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * length) if isinstance(length, float) else length])

    return cut


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def foreign_npy(path):
    """As a release of the method with other formats would leave it."""
    with open(path, "wb") as file:
        np.save(file, np.zeros(5, np.uint8))


def later_format(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"kind": path.parent.name, "format": 9}))


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize(
    ("damage", "error", "word"),
    [
        (os.remove, BrokenFile, "no "),
        *((keep(length), BrokenFile, "truncated or damaged") for length in (0, 20, 0.5, -1)),
        (flip_a_bit, BrokenFile, ""),
        (partial(np.savez, sparse=np.zeros(5, np.uint8)), ForeignFile, "this project's format"),
        (foreign_npy, ForeignFile, "this project's format"),
        (lambda path: path.write_bytes(pickle.dumps({"label": np.zeros(5)})), ForeignFile, "this project's format"),
        (later_format, ForeignFile, "format 9"),
    ],
)
def test_bad_files_are_told(tmp_path, kind, damage, error, word):
    path, read = write_all(tmp_path)[kind]
    damage(path)
    failing(error, kind, path, read, word, *(["remove"] if error is ForeignFile else []))


@pytest.mark.parametrize("kind", COMMANDS)
def test_files_of_something_else_are_told(tmp_path, kind):
    path, read = write_all(tmp_path, parameters="old")[kind]
    failing(ForeignFile, kind, path, partial(read, parameters_hash="new"), "old", "new", "remove")
    if kind == "superpixel":
        failing(ForeignFile, kind, path, partial(read, size=(9, 64)), "[18, 32]", "[9, 64]")
        failing(BrokenFile, kind, path, partial(read, cameras=["left"]), "['left', 'right']", "['left']")
    else:
        failing(BrokenFile, kind, path, partial(read, num_points=999), "1000", "999")
    shutil.copy(write_all(tmp_path / "x", token="other")[kind][0], path)
    failing(BrokenFile, kind, path, read, "another frame (other)")
    other = "weak" if kind == "pseudo" else "pseudo"
    shutil.copy(write_all(tmp_path / "y")[other][0], path)
    failing(ForeignFile, kind, path, read, f"found: {other}_label")
    if kind == "weak":
        files.write_weak_label(str(path.parent), "frame", weak_label(num_components=1), {}, "h")
        failing(BrokenFile, kind, path, read, "component")


@dataclass(frozen=True)
class Inner:
    epsilon: float = 0.5


@dataclass(frozen=True)
class Parameters:
    grid: tuple[float, float] = (5.0, 0.1)
    inner: Inner = Inner()


READER: Any = SimpleNamespace(
    name="nuscenes", version="v1.0-mini", split="train", classes=SimpleNamespace(names=("ignored", "car"))
)


@pytest.fixture
def directory(tmp_path):
    """Weak labels of two frames, a and b."""
    statistics, versions = {"sparse": 0.1}, {"opencv": "4"}
    command = "python3 prepare_sparse_label.py my.yaml"
    meta = files.write_meta(str(tmp_path), "weak_label", Parameters(), 7, READER, statistics, versions, command)
    for token in "ab":
        files.write_weak_label(str(tmp_path), token, weak_label(), {}, meta["parameters_hash"])
    return tmp_path


def test_meta_comes_back(directory):
    meta = read_meta(str(directory), "weak_label")
    assert meta["parameters"] == {"grid": [5.0, 0.1], "inner": {"epsilon": 0.5}} and meta["seed"] == 7
    assert meta["dataset"] == {"name": "nuscenes", "version": "v1.0-mini", "split": "train"}
    assert meta["classes"] == ["ignored", "car"] and meta["statistics"] == {"sparse": 0.1} and meta["opencv"] == "4"
    expected = {"parameters": Parameters(), "seed": 7}
    assert check_directory(str(directory), "weak_label", ["a", "b"], expected) == meta


def old_superpixels(folder):
    (folder / "camera.png").write_bytes(b"\x89PNG")
    meta = {"kind": "superpixel", "format": 1, "command": "python3 prepare_nusc_superpixel.py mine.yaml"}
    (folder / "meta.json").write_text(json.dumps(meta))


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("damage", "kind", "expected", "words"),
    [
        (nothing, "weak", {"parameters": Parameters(inner=Inner(0.25))}, ("meta.json", "inner.epsilon = 0.5", "0.25")),
        (nothing, "weak", {"classes": ["ignored", "bus"]}, ("meta.json", "classes", "car", "bus")),
        (nothing, "weak", {"seed": 8}, ("meta.json", "seed = 7", "8")),
        (nothing, "superpixel", None, ("meta.json", "weak_label")),
        (lambda folder: os.remove(folder / "b.npz"), "weak", {}, ("b.npz", "my.yaml")),
        (lambda folder: (folder / "b.npz").rename(folder / "b_x.bin"), "weak", {}, ("b.npz", "b_x.bin beside it")),
        (lambda folder: os.remove(folder / "meta.json"), "weak", {}, ("meta.json", "unfinished")),
        (lambda folder: (folder / "meta.json").write_text("{"), "weak", {}, ("meta.json", "JSON")),
        (shutil.rmtree, "weak", {}, ("no such directory",)),
        (
            old_superpixels,
            "superpixel",
            {},
            ("format 2; found", "(or choose another path)", "mine.yaml"),
        ),
    ],
)
def test_directories_that_do_not_serve(directory, damage, kind, expected, words):
    damage(directory)
    name = {"weak": "weak_label"}.get(kind, kind)
    refused(lambda: check_directory(str(directory), name, ["a", "b"], expected), "python3 prepare_", *words)
