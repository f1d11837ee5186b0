"""What is done per frame does not cost in proportion to the data set; the image cache."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from core import builder
from core.datasets.augmentation import Augmentation
from core.datasets.image_cache import read_images, write_images
from core.datasets.sample import PER_VOXEL, SegmentationDataset
from core.errors import UserError
from core.label_files.files import BrokenFile, ForeignFile, check_directory, label_path, write_meta
from core.labeling.over_data_set.jobs import ImageCacheJob, WeakLabelJob
from core.labeling.over_data_set.prepare import check_image_cache_room, prepare
from core.running.config import load_config
from core.running.files import absent_files, why_absent
from tests.audit import watched
from tests.entry import ASSOP2P, CONFIGS, refusal, run_script
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


SHAPE = (2, 3, 5, 7)
SIZE = (16, 24)


def test_bad_files_are_told(tmp_path):
    """Each with its name and the command."""
    folder = str(tmp_path / "cache" / "train")
    path = tmp_path / "cache" / "train" / "t.npy"
    images = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    write_images(folder, "t", images)
    np.testing.assert_array_equal(read_images(folder, "t", SHAPE), images)
    whole = path.read_bytes()

    def failing(error, *words, token="t", shape=SHAPE):
        with pytest.raises(error) as caught:
            read_images(folder, token, shape)
        text = str(caught.value)
        for word in (f"--cache-images --dataset.image_cache {tmp_path / 'cache'}", f"{token}.npy", *words):
            assert word in text, text

    failing(BrokenFile, "no image cache file", token="other")
    failing(ForeignFile, "(2, 3, 5, 7)", "expected uint8 (2, 3, 10, 14)", shape=(2, 3, 10, 14))
    for content in (whole[: len(whole) // 2], whole[:-1], whole[:60], b"", b"no array at all"):
        path.write_bytes(content)
        failing(BrokenFile, "truncated or damaged")
    np.save(path, images.astype(np.float32))
    failing(ForeignFile, "float32")


@pytest.mark.parametrize("points", ["in_view", "all"])
def test_samples_are_the_same(tmp_path, points):
    reader = Streets(tmp_path / "images", num_frames=2)
    reader.features = ("intensity",)
    prepare(ImageCacheJob(reader, str(tmp_path / "cache"), SIZE))
    options = {"voxel_size": 0.3, "image_size": SIZE, "points": points, "use_color": True}
    options["augmentation"] = Augmentation(colors=True)
    plain = SegmentationDataset(reader, "train", **options)
    cached = SegmentationDataset(reader, "train", **options, image_cache=str(tmp_path / "cache"))
    expected = [plain[epoch, index] for epoch in range(3) for index in range(2)]
    shutil.rmtree(tmp_path / "images")  # the cache alone is read
    for sample, other in zip(expected, (cached[epoch, index] for epoch in range(3) for index in range(2)), strict=True):
        for name in (*PER_VOXEL, "images"):
            np.testing.assert_array_equal(getattr(sample, name), getattr(other, name))


def test_room_is_checked_beforehand(tmp_path, monkeypatch, capsys):
    reader, folder = Streets(tmp_path / "images", num_frames=3), str(tmp_path / "not" / "there")
    usage = SimpleNamespace(free=3 * 2 * 3 * 16 * 24)
    monkeypatch.setattr("core.running.files.shutil.disk_usage", lambda path: usage)
    check_image_cache_room({folder: reader}, SIZE)
    assert "images of 3 frames, 0.00 GB" in capsys.readouterr().out
    usage.free -= 1
    with pytest.raises(UserError, match="needs .* GB, the disk has .* GB left"):
        check_image_cache_room({folder: reader}, SIZE)
    usage.free += 1
    prepare(ImageCacheJob(Streets(tmp_path / "images", num_frames=1), folder, SIZE))
    usage.free = 2 * 2 * 3 * 16 * 24  # one frame is there already
    check_image_cache_room({folder: reader}, SIZE)


def test_by_the_commands(own, tmp_path):
    """The superpixel step stores both splits; the builder reads them, and refuses what does not fit."""
    cache = tmp_path / "cache"
    words = own.words(dataset__image_cache=cache)
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", "--cache-images", *words)
    config = load_config(ASSOP2P, overrides=words)
    plain = load_config(ASSOP2P, overrides=own.words())
    for split, mode in (("train", "train"), ("train", "estep"), ("val", "eval")):
        ours, theirs = (builder.make_dataset(c, builder.make_reader(c, split), mode)[0].images for c in (config, plain))
        np.testing.assert_array_equal(ours, theirs)
    assert builder.make_dataset(config, builder.make_reader(config, "test"), "eval").image_cache is None

    train = "train_lc_sparse_assop2p_nusc"
    run = ["--run-dir", tmp_path / "run"]
    smaller = {**own.keys, "dataset.image_cache": cache, "dataset.image_crop_rate": 0.2, "dataset.superpixel": tmp_path}
    meta = json.loads((cache / "val/meta.json").read_text())
    (cache / "val/meta.json").write_text(json.dumps(meta | {"format": 1}))
    with pytest.raises(UserError, match=r"format 2; found 'image_cache', 1; remove .*--cache-images"):
        builder.make_dataset(load_config(ASSOP2P, overrides=words), builder.make_reader(plain, "val"), "eval")
    (cache / "val/meta.json").write_text(json.dumps(meta))
    config = load_config(ASSOP2P, overrides=[w for k, v in smaller.items() for w in (f"--{k}", str(v))])
    with pytest.raises(UserError, match="image_size = .* the configuration says .*--cache-images"):
        builder.make_dataset(config, builder.make_reader(config, "val"), "eval")
    token = builder.make_reader(plain, "train").frame(1).token
    os.remove(cache / "train" / f"{token}.npy")
    line = refusal(train, ASSOP2P, *run, *words)
    assert f"{token}.npy: no image cache file here" in line and "--cache-images" in line
    shutil.rmtree(cache / "val")
    run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", "--cache-images", "train", *words)
    line = refusal(train, ASSOP2P, *run, *words)
    assert f"{cache}/val: no such directory of image cache files" in line
