"""From files to samples."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.datasets.augmentation import Augmentation
from core.datasets.images import augment_colors, load_image, resize_image
from core.datasets.label_sources import LabelSources
from core.datasets.nuscenes import NuScenes
from core.datasets.projection import normalize_pixels, project
from core.datasets.sample import PER_VOXEL, Sample, SegmentationDataset
from core.errors import UserError
from core.label_files.files import WeakLabel, write_pseudo_label, write_superpixels, write_weak_label
from tests.fake_labels import weak_label
from tests.fake_nuscenes import POINTS, SIZE, VERSION, write_fake_nuscenes

IMAGE_SIZE = (18, 32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A fake data set without dense labels, with weak labels, superpixels and pseudo-labels."""
    folder = tmp_path_factory.mktemp("data")
    root = write_fake_nuscenes(folder / "nuscenes")
    reader = NuScenes(str(root), VERSION, "train", str(folder / "index"))
    rng = np.random.default_rng(0)
    weak = {frame.token: weak_label(index) for index, frame in enumerate(reader)}
    for frame in reader:
        write_weak_label(str(folder / "weak"), frame.token, weak[frame.token], {}, "hash")
        write_pseudo_label(str(folder / "pseudo"), frame.token, rng.integers(0, 17, POINTS).astype(np.uint8))
        cameras = [view.token for view in frame.cameras]
        ids = np.arange(IMAGE_SIZE[0] * IMAGE_SIZE[1]).reshape(1, *IMAGE_SIZE).repeat(len(cameras), 0) // 64
        write_superpixels(str(folder / "superpixels"), frame.token, cameras, ids, "hash")
    shutil.rmtree(root / "lidarseg")
    sources = LabelSources(*(str(folder / name) for name in ("weak", "superpixels", "pseudo")))
    return {"reader": reader, "weak": weak, "labels": sources}


def dataset(data: dict[str, Any], mode: str, **changes: Any) -> SegmentationDataset:
    options = {"voxel_size": 0.5, "image_size": IMAGE_SIZE, "seed": 3, "labels": data["labels"], **changes}
    return SegmentationDataset(data["reader"], mode, **options)


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in (*PER_VOXEL, "images", "point_rows"))


@pytest.mark.parametrize("mode", ["train", "estep", "eval"])
@pytest.mark.parametrize("points", ["in_view", "all"])
def test_fields(data: dict[str, Any], mode: str, points: str) -> None:
    """Every field of a voxel is that of its representative; dense labels stay closed (their files are gone)."""
    sample = dataset(data, mode, points=points, augmentation=Augmentation(colors=True))[2, 1]
    frame = data["reader"].frame(1)
    file_points = data["reader"].load_points(frame)
    projection = project(file_points, frame.cameras)
    weak: WeakLabel = data["weak"][frame.token]
    taking_part = np.flatnonzero(projection.seen) if points == "in_view" else np.arange(POINTS)
    assert (sample.token, sample.index) == (frame.token, 1)
    np.testing.assert_array_equal(sample.point_rows, taking_part)
    np.testing.assert_array_equal(sample.camera, projection.camera[sample.rows])
    pixel = normalize_pixels(projection.pixel, projection.camera, frame.cameras)[sample.rows]
    np.testing.assert_array_equal(sample.pixel, pixel.astype(np.float32))
    training_class = np.where(weak.sparse == 255, 0, weak.sparse)
    np.testing.assert_array_equal(sample.sparse_label, training_class[sample.rows])
    np.testing.assert_array_equal(sample.propagated_label, weak.propagated[sample.rows])
    np.testing.assert_array_equal(sample.candidates, weak.point_candidates()[sample.rows])
    np.testing.assert_array_equal(sample.feats[:, 3], file_points[sample.rows, 3])
    assert not sample.dense_label.any() and sample.pseudo_label.any()
    assert not sample.asso_target[sample.camera < 0].any()
    seen_annotated = (sample.sparse_label > 0) & (sample.camera >= 0)
    np.testing.assert_array_equal(sample.asso_target[seen_annotated], sample.sparse_label[seen_annotated])
    assert ((sample.asso_target > 0) & (sample.sparse_label == 0)).any()
    assert sample.images.shape == (6, 3, *IMAGE_SIZE) and sample.images.dtype == np.uint8
    # representatives: the highest class of the voxel, or the first point
    np.testing.assert_array_equal(sample.point_voxel[np.searchsorted(taking_part, sample.rows)], np.arange(len(sample)))
    for voxel in range(len(sample)):
        members = sample.point_rows[sample.point_voxel == voxel]
        best = members[0] if mode == "eval" else members[np.argmax(training_class[members])]
        assert sample.rows[voxel] == best


def test_random_numbers_depend_on_seed_epoch_and_index_alone(data: dict[str, Any]) -> None:
    options = {"augmentation": Augmentation(colors=True, share=0.7)}
    first, second = dataset(data, "train", **options), dataset(data, "train", **options)
    _ = second[5, 1], second[0, 0]
    assert same(first[4, 0], second[4, 0]) and same(first[0], second[0, 0])
    assert not same(first[4, 0], first[5, 0])
    assert not same(first[4, 0], dataset(data, "train", **options, seed=4)[4, 0])
    plain = dataset(data, "eval", **options)
    assert same(plain[0, 0], plain[9, 0])


def test_colors(data: dict[str, Any]) -> None:
    sample = dataset(data, "train", use_color=True, augmentation=Augmentation(colors=True), points="all")[0]
    assert sample.feats.shape[1] == 7
    for voxel in range(len(sample)):
        expected = np.zeros(3, np.uint8)
        if sample.camera[voxel] >= 0:
            column, row = ((sample.pixel[voxel] + 1) / 2 * [IMAGE_SIZE[1] - 1, IMAGE_SIZE[0] - 1]).astype(int)
            expected = sample.images[sample.camera[voxel], :, row, column]
        np.testing.assert_array_equal(sample.feats[voxel, 4:], expected)


def test_only_asked_labels_are_opened(data: dict[str, Any]) -> None:
    sample = dataset(data, "train", labels=None)[0]
    for name in ("sparse_label", "propagated_label", "pseudo_label", "dense_label", "asso_target", "candidates"):
        assert not getattr(sample, name).any()
    with pytest.raises(UserError, match="label file"):
        dataset(data, "eval", dense_labels=True)[0]
    with pytest.raises(UserError, match="nowhere"):
        dataset(data, "train", labels=LabelSources("nowhere"))[0]


def test_image_errors(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    with pytest.raises(UserError, match=r"image.jpg cannot be read \(No such file"):
        load_image(str(path), *SIZE)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (36, 64, 3)).astype(np.uint8)).save(path)
    assert load_image(str(path), *SIZE).shape == (36, 64, 3)
    with pytest.raises(UserError, match=r"image.jpg is 64x36, the data set's tables say 1600x900"):
        load_image(str(path), 1600, 900)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text", whole[:20]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"image.jpg does not decode"):
            load_image(str(path), *SIZE)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_as_pil_has_them(tmp_path: Path, suffix: str, mode: str) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(rng.integers(0, 256, (45, 80, 3)).astype(np.uint8)).convert(mode).save(path)
    reference = Image.open(path).convert("RGB")
    image = load_image(str(path), 80, 45)
    np.testing.assert_array_equal(image, np.asarray(reference))
    for size in [(18, 32), (45, 80), (45, 20), (19, 80), (100, 200), (1, 1), (7, 161)]:
        expected = np.asarray(reference.resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
        different = np.abs(resize_image(image, size) - expected)
        assert different.max() <= 1 and different.mean() < 0.01


def test_color_augmentation() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 9)).astype(np.uint8)
    rng = np.random.default_rng(0)
    drawn = [augment_colors(image, rng) for _ in range(200)]
    unchanged = sum(np.array_equal(result, image) for result in drawn)
    gray = sum(bool((result[0] == result[1]).all() and (result[0] == result[2]).all()) for result in drawn)
    assert 10 <= unchanged <= 60 and 20 <= gray <= 70  # expected: 32, 40
    assert all(result.shape == image.shape and result.dtype == np.uint8 for result in drawn)
    still = augment_colors(image, rng, (0.0, 0.0, 0.0, 0.0), 1.0, 0.0)
    assert np.abs(still.astype(int) - image).max() <= 2
