"""Label files: what is written is read, and every kind of bad file is told with its name and the mending command."""

import json
import os
import pickle
import shutil
import time
import zipfile
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from core.errors import UserError
from core.label_files.files import (
    BrokenFile,
    ForeignFile,
    WeakLabel,
    check_directory,
    first_difference,
    parameters_hash,
    read_meta,
    read_pseudo_label,
    read_superpixels,
    read_weak_label,
    read_weak_label_statistics,
    verify_superpixels,
    write_meta,
    write_pseudo_label,
    write_superpixels,
    write_weak_label,
)

SIZE = (36, 64)
WEAK_COMMAND = "python3 prepare_sparse_label.py"
SUPERPIXEL_COMMAND = "python3 prepare_nusc_superpixel.py"


def weak_label(num_points=1000, seed=0):
    rng = np.random.default_rng(seed)
    return WeakLabel(
        sparse=np.where(rng.random(num_points) < 0.01, rng.integers(1, 17, num_points), 0).astype(np.uint8),
        propagated=rng.integers(0, 17, num_points).astype(np.uint8),
        component=rng.integers(-1, 3, num_points).astype(np.int32),
        candidates=np.array([0, 0b110, 1 << 22], np.uint32),
    )


def superpixels(seed=0):
    return np.random.default_rng(seed).integers(0, 65536, SIZE).astype(np.int32)


def write_all(directory, token="frame", parameters="hash"):
    """One file of each kind; returns {kind: (path, reading function)}."""
    directory = str(directory)
    write_weak_label(directory, token, weak_label(), {"sparse": 0.5}, parameters)
    write_superpixels(os.path.join(directory, "superpixels"), token, superpixels(), parameters)
    write_pseudo_label(os.path.join(directory, "pseudo"), token, np.arange(1000).astype(np.uint8), parameters)
    return {
        "weak": (f"{directory}/{token}.npz", lambda **kw: read_weak_label(directory, token, **kw)),
        "superpixel": (
            f"{directory}/superpixels/{token}.png",
            lambda **kw: read_superpixels(f"{directory}/superpixels", token, SIZE, **kw),
        ),
        "pseudo": (
            f"{directory}/pseudo/{token}.npz",
            lambda **kw: read_pseudo_label(f"{directory}/pseudo", token, **kw),
        ),
    }


def content_of(path):
    with open(path, "rb") as file:
        return file.read()


KINDS = ["weak", "superpixel", "pseudo"]
COMMANDS = {"weak": WEAK_COMMAND, "superpixel": SUPERPIXEL_COMMAND, "pseudo": "python3 train_lc_estep_nusc.py"}


def failing(error_type, kind, path, read, *words, **arguments):
    """Checks that reading fails with one line that holds the file's name, the command and `words`."""
    with pytest.raises(error_type) as caught:
        read(**arguments)
    message = str(caught.value)
    assert "\n" not in message and isinstance(caught.value, UserError)
    for word in (os.path.basename(path), COMMANDS[kind], *words):
        assert word in message, message


def test_weak_label_comes_back(tmp_path):
    label = weak_label()
    write_weak_label(str(tmp_path / "deep" / "folder"), "t", label, {"sparse": 0.25, "total": [1, 2]}, "h")
    read = read_weak_label(str(tmp_path / "deep" / "folder"), "t", num_points=1000, parameters_hash="h")
    for name in ("sparse", "propagated", "component", "candidates"):
        np.testing.assert_array_equal(getattr(read, name), getattr(label, name))
        assert getattr(read, name).dtype == getattr(label, name).dtype
    assert read_weak_label_statistics(str(tmp_path / "deep" / "folder"), "t") == {"sparse": 0.25, "total": [1, 2]}


def test_point_candidates():
    label = WeakLabel(
        np.zeros(4, np.uint8), np.zeros(4, np.uint8), np.array([1, -1, 0, 1], np.int32), np.array([0, 6], np.uint32)
    )
    assert label.num_points == 4
    assert label.point_candidates().tolist() == [6, 0, 0, 6] and label.point_candidates().dtype == np.uint32


def test_superpixels_come_back(tmp_path):
    write_superpixels(str(tmp_path), "c", superpixels(), "h")
    read = read_superpixels(str(tmp_path), "c", SIZE, "h")
    np.testing.assert_array_equal(read, superpixels())
    assert read.dtype == np.uint16 and read.shape == SIZE
    verify_superpixels(str(tmp_path), "c", SIZE, "h")


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (40, 7)])
def test_superpixels_of_any_kind_come_back(tmp_path, size):
    """Noise up to the largest id, which does not compress; laid out by columns in memory."""
    ids = np.asfortranarray(np.random.default_rng(0).integers(0, 65536, size))
    ids[0, 0] = 65535
    write_superpixels(str(tmp_path), "é", ids, "h")
    np.testing.assert_array_equal(read_superpixels(str(tmp_path), "é", size, "h"), ids)
    with Image.open(tmp_path / "é.png") as image:
        assert image.mode == "I;16" and json.loads(image.text["iupc"])["token"] == "é"


def test_superpixel_files_are_small(tmp_path):
    blocks = np.arange(880).reshape(22, 40).repeat(16, 0).repeat(16, 1)
    write_superpixels(str(tmp_path), "c", blocks, "h")
    assert os.path.getsize(tmp_path / "c.png") < 6000


def test_superpixels_of_other_writers_are_read(tmp_path):
    """PIL filters rows; so did earlier versions of this project."""
    write_superpixels(str(tmp_path), "c", superpixels(), "h")
    smooth = np.add.outer(np.arange(36), np.arange(64)).astype(np.uint16)
    with Image.open(tmp_path / "c.png") as image:
        text = PngImagePlugin.PngInfo()
        text.add_text("iupc", image.text["iupc"])
    Image.fromarray(smooth).save(tmp_path / "c.png", pnginfo=text)
    np.testing.assert_array_equal(read_superpixels(str(tmp_path), "c", SIZE, "h"), smooth)
    verify_superpixels(str(tmp_path), "c", SIZE, "h")


@pytest.mark.parametrize("ids", [np.full(SIZE, 65536), np.full(SIZE, -1), np.zeros(5, int)])
def test_superpixel_ids_fit_into_16_bits(tmp_path, ids):
    with pytest.raises(ValueError, match="65535"):
        write_superpixels(str(tmp_path), "c", ids, "h")


def test_pseudo_label_comes_back(tmp_path):
    write_pseudo_label(str(tmp_path), "t", np.arange(200, dtype=np.uint8))
    np.testing.assert_array_equal(read_pseudo_label(str(tmp_path), "t", 200), np.arange(200))


def test_same_content_same_bytes(tmp_path):
    first = {k: content_of(p) for k, (p, _) in write_all(tmp_path / "a").items()}
    time.sleep(0.01)
    assert first == {k: content_of(p) for k, (p, _) in write_all(tmp_path / "b").items()}


def test_reading_is_quick(tmp_path):
    write_weak_label(str(tmp_path), "t", weak_label(35000), {}, "h")
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        read_weak_label(str(tmp_path), "t")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_missing(tmp_path, kind):
    path, read = write_all(tmp_path)[kind]
    os.remove(path)
    failing(BrokenFile, kind, path, read, "no ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", [0, 1, 20, 0.5, -30, -1])
def test_truncated(tmp_path, kind, keep):
    path, read = write_all(tmp_path)[kind]
    content = content_of(path)
    with open(path, "wb") as file:
        file.write(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    failing(BrokenFile, kind, path, read, "truncated or damaged")


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bit(tmp_path, kind):
    path, read = write_all(tmp_path)[kind]
    content = bytearray(content_of(path))
    content[len(content) // 2] ^= 4
    with open(path, "wb") as file:
        file.write(content)
    failing(BrokenFile, kind, path, read)


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_frame(tmp_path, kind):
    path, read = write_all(tmp_path)[kind]
    shutil.copy(write_all(tmp_path / "x", token="other")[kind][0], path)
    failing(BrokenFile, kind, path, read, "another frame (other)")


@pytest.mark.parametrize("kind", KINDS)
def test_of_other_parameters(tmp_path, kind):
    path, read = write_all(tmp_path, parameters="old")[kind]
    failing(ForeignFile, kind, path, read, "old", "new", "remove", parameters_hash="new")


@pytest.mark.parametrize("kind", ["weak", "pseudo"])
def test_of_another_number_of_points(tmp_path, kind):
    path, read = write_all(tmp_path)[kind]
    failing(BrokenFile, kind, path, read, "1000", "999", num_points=999)


def test_of_another_size(tmp_path):
    path, _ = write_all(tmp_path)["superpixel"]
    failing(
        ForeignFile,
        "superpixel",
        path,
        lambda: read_superpixels(str(tmp_path / "superpixels"), "frame", (18, 64)),
        "(36, 64)",
        "(18, 64)",
    )


def test_of_another_kind(tmp_path):
    files = write_all(tmp_path)
    shutil.copy(files["pseudo"][0], files["weak"][0])
    failing(ForeignFile, "weak", *files["weak"], "found: pseudo_label")


def test_of_a_later_format_version(tmp_path):
    path, read = write_all(tmp_path)["pseudo"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", json.dumps({"kind": "pseudo_label", "format": 2}))
    failing(ForeignFile, "pseudo", path, read, "format 1", "format 2")


def test_component_out_of_range(tmp_path):
    label = weak_label()
    wrong = WeakLabel(label.sparse, label.propagated, label.component, label.candidates[:1])
    write_weak_label(str(tmp_path), "frame", wrong, {}, "h")
    failing(BrokenFile, "weak", "frame.npz", lambda: read_weak_label(str(tmp_path), "frame"), "component")


def foreign_npz(path):
    np.savez(path, sparse=np.zeros(5, np.uint8))


def foreign_npy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(5, np.uint8))


def foreign_pickle(path):
    with open(path, "wb") as file:
        pickle.dump({"label": np.zeros(5)}, file)


@pytest.mark.parametrize("kind", ["weak", "pseudo"])
@pytest.mark.parametrize("write", [foreign_npz, foreign_npy, foreign_pickle])
def test_of_a_foreign_format(tmp_path, kind, write):
    path, read = write_all(tmp_path)[kind]
    write(path)
    failing(ForeignFile, kind, path, read, "this project's format", "remove")


def test_superpixels_of_a_foreign_format(tmp_path):
    path, read = write_all(tmp_path)["superpixel"]
    Image.fromarray(superpixels().astype(np.uint16)).save(path)
    failing(ForeignFile, "superpixel", path, read, "this project's format")
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    failing(ForeignFile, "superpixel", path, read, "this project's format")
    foreign_npy(path)
    failing(ForeignFile, "superpixel", path, read, "this project's format")


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


def test_meta_comes_back(tmp_path):
    meta = write_directory(tmp_path, command="python3 make.py my.yaml")
    assert read_meta(str(tmp_path), "weak_label") == meta
    assert meta["parameters"] == {"grid": [5.0, 0.1], "inner": {"epsilon": 0.5}} and meta["seed"] == 7
    assert meta["dataset"] == {"name": "nuscenes", "version": "v1.0-mini", "split": "train"}
    assert meta["classes"] == ["ignored", "car"] and meta["statistics"] == {"sparse": 0.1} and meta["opencv"] == "4"


def test_hash_changes_with_any_parameter():
    hashes = {
        parameters_hash(p) for p in (Parameters(), Parameters((5.0, 0.2)), Parameters(inner=Inner(0.4)), {"grid": 1})
    }
    assert len(hashes) == 4 and parameters_hash(Parameters()) == parameters_hash(Parameters())


def test_first_difference_is_dotted():
    assert first_difference({"a": {"b": 1, "c": [2]}}, {"a": {"b": 1, "c": [3]}, "d": 4}) == ("a.c", [2], [3])
    assert first_difference({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) is None
    assert first_difference({"a": {"b": 1}}, {}) == ("a", {"b": 1}, None)


def test_good_directory(tmp_path):
    meta = write_directory(tmp_path)
    assert check_directory(str(tmp_path), "weak_label", ["a", "b"], {"parameters": Parameters(), "seed": 7}) == meta
    assert check_directory(str(tmp_path), "weak_label", [], None) == meta


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
    failing(
        ForeignFile, "weak", "meta.json", lambda: check_directory(str(tmp_path), "weak_label", ["a"], expected), *words
    )


def test_directory_lacks_files(tmp_path):
    write_directory(tmp_path)
    failing(BrokenFile, "weak", "c.npz", lambda: check_directory(str(tmp_path), "weak_label", ["a", "c"], {}))


def test_a_foreign_file_beside_a_missing_one_is_named(tmp_path):
    write_directory(tmp_path)
    foreign_npy(str(tmp_path / "c_x.bin"))
    check = lambda: check_directory(str(tmp_path), "weak_label", ["c"])  # noqa: E731
    failing(BrokenFile, "weak", "c.npz", check, "c_x.bin beside it is of another format")


def test_a_directory_of_dead_links(tmp_path):
    write_directory(tmp_path / "there")
    shutil.copytree(tmp_path / "there", tmp_path / "links", symlinks=True)
    for name in ("a.npz", "b.npz"):
        os.remove(tmp_path / "links" / name)
        os.symlink(tmp_path / "there" / name, tmp_path / "links" / name)
    check = lambda: check_directory(str(tmp_path / "links"), "weak_label", ["a", "b"])  # noqa: E731
    check()
    os.rename(tmp_path / "there", tmp_path / "unmounted")
    failing(BrokenFile, "weak", "a.npz", check, "2 of 2 are missing", f"dead link to {tmp_path}/there/a.npz")


def test_directory_lacks_meta(tmp_path):
    check = lambda: check_directory(str(tmp_path / "labels"), "weak_label", ["a"], {})  # noqa: E731
    failing(UserError, "weak", "labels", check, "no such directory")
    os.makedirs(tmp_path / "labels")
    failing(UserError, "weak", "meta.json", check, "unfinished")
    (tmp_path / "labels" / "meta.json").write_text("{")
    failing(UserError, "weak", "meta.json", check, "JSON")


def test_directory_of_another_kind(tmp_path):
    write_directory(tmp_path)
    failing(
        ForeignFile,
        "superpixel",
        "meta.json",
        lambda: check_directory(str(tmp_path), "superpixel", [], {}),
        "weak_label",
    )


def test_recorded_command_is_named(tmp_path):
    write_directory(tmp_path, command="python3 prepare_sparse_label.py my.yaml")
    with pytest.raises(UserError, match="with: python3 prepare_sparse_label.py my.yaml"):
        read_weak_label(str(tmp_path), "c")


def test_failure_to_write_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_pseudo_label(str(tmp_path / "file"), "t", np.zeros(3, np.uint8))
