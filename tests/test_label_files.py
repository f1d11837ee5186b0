"""Label files: what is written is read, and every kind of bad file is told with its name and the mending command."""

import json
import os
import pickle
import shutil
import zipfile
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core.errors import UserError
from core.label_files.files import (
    BrokenFile,
    ForeignFile,
    WeakLabel,
    check_directory,
    read_pseudo_label,
    read_superpixels,
    read_weak_label,
    read_weak_label_statistics,
    write_meta,
    write_pseudo_label,
    write_superpixels,
    write_weak_label,
)

SIZE = (18, 32)
CAMERAS = ["left", "right"]
COMMANDS = {
    "weak": "python3 prepare_sparse_label.py",
    "superpixel": "python3 prepare_nusc_superpixel.py",
    "pseudo": "python3 train_lc_estep_nusc.py",
}


def weak_label(num_points=1000, num_components=3):
    rng = np.random.default_rng(0)
    return WeakLabel(
        sparse=np.where(rng.random(num_points) < 0.01, rng.integers(1, 17, num_points), 0).astype(np.uint8),
        propagated=rng.integers(0, 17, num_points).astype(np.uint8),
        component=rng.integers(-1, 3, num_points).astype(np.int32),
        candidates=np.array([0, 0b110, 1 << 22], np.uint32)[:num_components],
    )


def superpixels():
    """Noise up to the largest id; laid out by columns in memory."""
    ids = np.asfortranarray(np.random.default_rng(0).integers(0, 65536, (2, *SIZE)))
    ids[1, 0, 0] = 65535
    return ids


def write_all(directory, token="frame", parameters="hash"):
    """One file of each kind; returns {kind: (path, reading function)}."""
    folders = {kind: f"{directory}/{kind}" for kind in COMMANDS}
    write_weak_label(folders["weak"], token, weak_label(), {"sparse": 0.5}, parameters)
    write_superpixels(folders["superpixel"], token, CAMERAS, superpixels(), parameters)
    write_pseudo_label(folders["pseudo"], token, np.arange(1000).astype(np.uint8), parameters)
    readers = {"weak": read_weak_label, "superpixel": read_superpixels, "pseudo": read_pseudo_label}

    def reading(kind):
        defaults = {"cameras": CAMERAS, "size": SIZE} if kind == "superpixel" else {}
        return lambda **changes: readers[kind](folders[kind], token, **{**defaults, **changes})

    return {kind: (f"{folder}/{token}.npz", reading(kind)) for kind, folder in folders.items()}


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


def replace_content(path, content):
    with open(path, "wb") as file:
        file.write(content)


def failing(error_type, kind, path, read, *words, **arguments):
    """Checks that reading fails with one line that holds the file's name, the command and `words`."""
    with pytest.raises(error_type) as caught:
        read(**arguments)
    message = str(caught.value)
    assert "\n" not in message and isinstance(caught.value, UserError)
    for word in (os.path.basename(path), COMMANDS[kind], *words):
        assert word in message, message


def test_what_is_written_comes_back(tmp_path):
    files = write_all(tmp_path / "deep", "é")
    read = files["weak"][1](num_points=1000, parameters_hash="hash")
    for name, value in vars(weak_label()).items():
        np.testing.assert_array_equal(getattr(read, name), value)
        assert getattr(read, name).dtype == value.dtype
    assert read_weak_label_statistics(str(tmp_path / "deep/weak"), "é") == {"sparse": 0.5}
    ids = files["superpixel"][1](parameters_hash="hash")
    np.testing.assert_array_equal(ids, superpixels())
    assert ids.dtype == np.uint16
    np.testing.assert_array_equal(files["pseudo"][1](num_points=1000), np.arange(1000).astype(np.uint8))
    again = write_all(tmp_path / "again", "é")
    assert all(content_of(path) == content_of(again[kind][0]) for kind, (path, _) in files.items())


@pytest.mark.parametrize("ids", [np.full((2, 4, 4), 65536), np.full((2, 4, 4), -1), np.zeros((4, 4), int), [[[0]]]])
def test_superpixel_ids_that_cannot_be_written(tmp_path, ids):
    with pytest.raises(ValueError, match="65535"):
        write_superpixels(str(tmp_path), "t", CAMERAS, np.asarray(ids), "h")


def foreign_npz(path):
    np.savez(path, sparse=np.zeros(5, np.uint8))


def foreign_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(5, np.uint8))


def foreign_pickle(path):
    with open(path, "wb") as file:
        pickle.dump({"label": np.zeros(5)}, file)


def later_format(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"kind": os.path.basename(os.path.dirname(path)), "format": 9}))


def keep(length):
    """Cuts a file after `length` bytes (a share of them; negative: of its end)."""

    def cut(path):
        content = content_of(path)
        replace_content(path, content[: int(len(content) * length) if isinstance(length, float) else length])

    return cut


def flip_a_bit(path):
    content = bytearray(content_of(path))
    content[len(content) // 2] ^= 4
    replace_content(path, content)


@pytest.mark.parametrize("kind", COMMANDS)
@pytest.mark.parametrize(
    ("damage", "error", "word"),
    [
        (os.remove, BrokenFile, "no "),
        *((keep(length), BrokenFile, "truncated or damaged") for length in (0, 1, 20, 0.5, -30, -1)),
        (flip_a_bit, BrokenFile, ""),
        (foreign_npz, ForeignFile, "this project's format"),
        (foreign_npy, ForeignFile, "this project's format"),
        (foreign_pickle, ForeignFile, "this project's format"),
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
    failing(ForeignFile, kind, path, read, "old", "new", "remove", parameters_hash="new")
    if kind == "superpixel":
        failing(ForeignFile, kind, path, read, "[18, 32]", "[9, 64]", size=(9, 64))
        failing(BrokenFile, kind, path, read, "['left', 'right']", "['left']", cameras=["left"])
    else:
        failing(BrokenFile, kind, path, read, "1000", "999", num_points=999)
    shutil.copy(write_all(tmp_path / "x", token="other")[kind][0], path)
    failing(BrokenFile, kind, path, read, "another frame (other)")
    other = "weak" if kind == "pseudo" else "pseudo"
    shutil.copy(write_all(tmp_path / "y")[other][0], path)
    failing(ForeignFile, kind, path, read, f"found: {other}_label")


def test_component_out_of_range(tmp_path):
    write_weak_label(str(tmp_path), "frame", weak_label(num_components=1), {}, "h")
    failing(BrokenFile, "weak", "frame.npz", lambda: read_weak_label(str(tmp_path), "frame"), "component")


# --- meta.json ---


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


def write_directory(directory, tokens=("a", "b"), command=None):
    meta = write_meta(str(directory), "weak_label", Parameters(), 7, READER, {"sparse": 0.1}, {"opencv": "4"}, command)
    for token in tokens:
        write_weak_label(str(directory), token, weak_label(), {}, meta["parameters_hash"])
    return meta


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"parameters": Parameters(inner=Inner(0.25))}, ("parameters.inner.epsilon = 0.5", "0.25")),
        ({"classes": ["ignored", "bus"]}, ("classes", "car", "bus")),
        ({"seed": 8}, ("seed = 7", "8")),
    ],
)
def test_directory_of_other_parameters(tmp_path, expected, words):
    write_directory(tmp_path)
    check = lambda: check_directory(str(tmp_path), "weak_label", ["a"], expected)  # noqa: E731
    failing(ForeignFile, "weak", "meta.json", check, *words)


def test_directory_lacks_meta(tmp_path):
    check = lambda: check_directory(str(tmp_path / "labels"), "weak_label", ["a"], {})  # noqa: E731
    failing(UserError, "weak", "labels", check, "no such directory")
    os.makedirs(tmp_path / "labels")
    failing(UserError, "weak", "meta.json", check, "unfinished")
    (tmp_path / "labels" / "meta.json").write_text("{")
    failing(UserError, "weak", "meta.json", check, "JSON")


def test_failure_to_write_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_pseudo_label(str(tmp_path / "file"), "t", np.zeros(3, np.uint8))
