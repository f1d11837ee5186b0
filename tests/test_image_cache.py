"""The image cache: the same samples in less time, and every file that does not fit is told."""

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
from core.label_files.files import BrokenFile, ForeignFile
from core.labeling.over_data_set.jobs import ImageCacheJob
from core.labeling.over_data_set.prepare import check_image_cache_room, prepare
from core.running.config import load_config
from tests.entry import ASSOP2P, CONFIGS, refusal, run_script
from tests.streets import Streets

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
