"""SemanticKITTI: class tables both ways, projection, poses, flips and bad input, on hand-made files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.datasets.augmentation import Augmentation
from core.datasets.catalog import open_dataset
from core.datasets.sample import SegmentationDataset
from core.datasets.semantic_kitti import CLASSES
from core.datasets.semantic_kitti import sequence as sequence_module
from core.datasets.semantic_kitti.sequence import COUNTS, SPLITS
from core.errors import UserError
from core.models.fusion import PointSampler
from tests.fake_kitti import LABELS, PIXELS, POINTS, SEEN, SIZES, STEP, write_sequence

# the official tables, as the format's documentation has them
RAW_IDS = """car 10 252, bicycle 11, motorcycle 15, truck 18 258, other-vehicle 13 16 20 256 257 259, person 30 254,
bicyclist 31 253, motorcyclist 32 255, road 40 60, parking 44, sidewalk 48, other-ground 49, building 50, fence 51,
vegetation 70, trunk 71, terrain 72, pole 80, traffic-sign 81"""
UNLABELED = {0, 1, 52, 99}
INVERSE = [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81]


@pytest.fixture
def root(tmp_path):
    write_sequence(tmp_path, "00")
    write_sequence(tmp_path, "08", scans=1)
    write_sequence(tmp_path, "11", labelled=False, scans=1)
    return tmp_path


def reader_of(root, split="train", num_sweeps=0, **keys):
    return open_dataset("semantic_kitti", str(root), "v1.0", split, str(root / "index"), num_sweeps, keys=keys)


def test_raw_labels_to_classes_and_back():
    table = [entry.split() for entry in RAW_IDS.split(",")]
    assert CLASSES.names[1:] == tuple(name for name, *_ in table)
    assert CLASSES.num_classes == len(CLASSES.colors) == 20 and CLASSES.things == tuple(range(1, 9))
    expected = dict.fromkeys(UNLABELED, 0) | {int(raw): 1 + i for i, (_, *ids) in enumerate(table) for raw in ids}
    assert {raw: int(label) for raw, label in enumerate(CLASSES.from_raw) if label != 255} == expected
    assert CLASSES.to_raw.tolist() == [0, *INVERSE] and CLASSES.from_raw[CLASSES.to_raw].tolist() == list(range(20))


def test_splits_and_counts():
    assert SPLITS["train"] == ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10") and SPLITS["val"] == ("08",)
    totals = {split: sum(COUNTS[name] for name in names) for split, names in SPLITS.items()}
    assert totals == {"train": 19130, "val": 4071, "test": 20351}


def test_frames(root):
    reader = reader_of(root)
    assert len(reader) == 2 and reader.tokens() == ["00_000000", "00_000001"] == [f.token for f in reader]
    for i, frame in enumerate(reader):
        (view,) = frame.cameras
        assert (frame.scene, view.width, view.height) == ("00", *SIZES[i])
        assert reader.load_image(view).shape == (*SIZES[i][::-1], 3)
        points = reader.load_points(frame)
        np.testing.assert_array_equal(points, POINTS)
        np.testing.assert_array_equal(reader.load_labels(frame, len(points)), LABELS)
        assert frame.sweeps == () and reader.has_labels(frame)
    reader.check_files(sweeps=True)


def test_the_test_split_has_no_labels(root):
    reader = reader_of(root, "test")
    reader.check_files(labels=False)
    assert not reader.has_labels(reader.frame(0))
    with pytest.raises(UserError, match="11_000000 has no labels"):
        reader.load_labels(reader.frame(0), 5)


def test_image_sizes_are_read_once(root, monkeypatch):
    sizes = [reader_of(root).frame(i).cameras[0].width for i in range(2)]

    def refuse(path, mend):
        raise AssertionError(f"{path} is opened again")

    with monkeypatch.context() as patch:
        patch.setattr(sequence_module, "image_size", refuse)
        assert [reader_of(root).frame(i).cameras[0].width for i in range(2)] == sizes
    os.remove(root / "sequences/00/image_2/000001.png")
    Image.new("RGB", (99, 55)).save(root / "sequences/00/image_2/000001.png")
    assert reader_of(root).frame(1).cameras[0].height == 55
    (root / "index/00.npz").write_bytes(b"broken")
    assert reader_of(root).frame(1).cameras[0].height == 55


def test_projection_by_hand(root):
    reader = reader_of(root)
    found = reader.project(reader.frame(0), POINTS)
    np.testing.assert_array_equal(found.seen, SEEN)
    np.testing.assert_allclose(found.pixel, PIXELS, atol=1e-5)


def test_points_with_x_up_to_zero_are_not_seen(root):
    """A camera that stands behind the LiDAR sees a point beside it."""
    path = root / "sequences/00/calib.txt"
    path.write_text(path.read_text().replace("1.0 0.0 0.0 -0.1", "1.0 0.0 0.0 3.0"))
    reader = reader_of(root)
    points = np.array([[-0.5, 0, 0, 0], [0, 0, 0, 0], [0.5, 0, 0, 0]], np.float32)
    assert reader.project(reader.frame(0), points).seen.tolist() == [False, False, True]


def test_poses_of_a_turn(root):
    """Camera 0 has turned to the right by 90 degrees; the sensor is 0.1 m behind it, so it has moved as well."""
    turned = "1 0 0 0 0 1 0 0 0 0 1 0\n0 0 1 0 0 1 0 0 -1 0 0 0\n"  # its z axis is the first camera's x axis
    (root / "sequences/00/poses.txt").write_text(turned)
    (sweep,) = reader_of(root, num_sweeps=1).frame(1).sweeps
    # 10 m ahead of the first camera is 10 m to the left of the second, in whose LiDAR frame x counts from 0.1 m behind
    np.testing.assert_allclose(sweep.to_key @ [10.1, 0, 0, 1], [0.1, 10, 0, 1], atol=1e-9)


def samples(root, flip=0.0, **changes):
    """The first training sample without turning and scaling, as it is and mirrored."""
    options = dict(voxel_size=0.1, image_size=(41, 121), points="all", **changes)
    augmentations = (Augmentation(rotation=0.0, scale=(1.0, 1.0), flip=probability) for probability in (0.0, flip))
    reader = reader_of(root)
    return tuple(SegmentationDataset(reader, "train", augmentation=a, **options)[0] for a in augmentations)


def colors(sample):
    """Colours at the points' pixels, as the network reads the images."""
    index = torch.from_numpy(sample.camera.astype(np.int64))
    return PointSampler(index, torch.from_numpy(sample.pixel))(torch.from_numpy(sample.images).float())


def test_flip_keeps_each_point_on_its_pixel(root):
    plain, flipped = samples(root, flip=1.0, use_color=True)
    order, mirrored = np.argsort(plain.rows), np.argsort(flipped.rows)
    np.testing.assert_array_equal(flipped.images, plain.images[..., ::-1])
    np.testing.assert_allclose(flipped.feats[mirrored, :4], plain.feats[order, :4] * (1, -1, 1, 1), rtol=1e-6)
    np.testing.assert_array_equal(flipped.pixel[mirrored], plain.pixel[order] * np.float32([-1, 1]))
    torch.testing.assert_close(colors(flipped)[mirrored], colors(plain)[order], atol=1e-3, rtol=1e-5)
    assert colors(flipped)[mirrored][SEEN].std() > 10
    np.testing.assert_array_equal(flipped.feats[mirrored, 4:], plain.feats[order, 4:])


@pytest.mark.parametrize("mode", ["estep", "eval"])
def test_only_training_samples_are_flipped(root, mode):
    options = {"voxel_size": 0.1, "image_size": (41, 121), "augmentation": Augmentation(flip=1.0)}
    dataset = SegmentationDataset(reader_of(root), mode, **options)
    assert dataset[0].feats[:, 1].min() == -1


def removed(path):
    shutil.rmtree(path) if path.is_dir() else os.remove(path)


def text(content):
    return lambda path: path.write_text(content)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("image_2", removed, "camera image folder .*00/image_2 is missing: unpack .*data_odometry_color.zip"),
        ("calib.txt", removed, "00/calib.txt is missing: unpack data_odometry_calib.zip"),
        ("labels", removed, "label file .*labels/000000.label is missing, and 2 of 2"),
        ("velodyne/000001.bin", removed, "000001.bin is missing, and 1 of the 2 scans that have an image"),
        ("poses.txt", removed, "poses.txt is missing"),
        ("poses.txt", text("1 0 0 0 0 1 0 0 0 0 1 0\n"), "poses.txt: expected 2 lines .*found 1: .*num_sweeps to 0"),
        ("calib.txt", text("P2: 1 2 3\nTr: 1\n"), "calib.txt: expected P2 with 12"),
        ("calib.txt", text(f"P2: {'1 ' * 12}\nTr: {'x ' * 12}\n"), "calib.txt: expected Tr with 12"),
        ("times.txt", text("0.0\n0.1\n0.2\n"), "times.txt lists 3 scans, .*velodyne has 2"),
    ],
)
def test_sequences_that_are_not_whole(root, name, change, message):
    change(root / "sequences/00" / name)
    with pytest.raises(UserError, match=message) as caught:
        reader_of(root, num_sweeps=1 if "poses" in name else 0).check_files()
    assert "\n" not in str(caught.value)
    if name == "poses.txt":
        reader_of(root).check_files()  # without sweeps no pose is used, and nobody is blamed for it


def test_splits_without_a_scan(root, tmp_path):
    shutil.rmtree(root / "sequences/08")
    for place in (root, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="no scan of split 'val' in .*sequences/08/velodyne"):
            reader_of(place, "val")


def test_scans_are_counted_by_numbers(tmp_path):
    """Names without leading zeros: an earlier scan has a lower number, and its pose is that of its number."""
    folder = Path(write_sequence(tmp_path, "00", scans=12))
    for part in ("velodyne", "labels", "image_2"):
        for path in (folder / part).iterdir():
            path.rename(path.with_name(f"{int(path.stem)}{path.suffix}"))
    reader = reader_of(tmp_path, num_sweeps=2)
    assert reader.tokens() == [f"00_{i}" for i in range(12)]
    sweeps = reader.frame(10).sweeps
    assert [os.path.basename(sweep.path) for sweep in sweeps] == ["9.bin", "8.bin"]
    assert sweeps[1].to_key[0, 3] == pytest.approx(-2 * STEP)
    for part in ("velodyne", "image_2"):
        for number in range(5):
            next((folder / part).glob(f"{number}.*")).unlink()
    reader = reader_of(tmp_path, num_sweeps=2)
    assert reader.tokens()[0] == "00_5" and reader.frame(3).sweeps[0].to_key[0, 3] == pytest.approx(-STEP)
    moved = np.load(tmp_path / "index/00.npz")["size"]
    assert moved.tolist() == [list(SIZES[i % 2]) for i in range(5, 12)]


def test_a_half_unpacked_data_set_is_told(root, monkeypatch):
    """One whole sequence tells the real data set from a made-up one."""
    monkeypatch.setitem(COUNTS, "00", 2)
    with pytest.raises(UserError, match="has 2 scans of split 'train', expected 14591: unpack sequence 01"):
        reader_of(root).check_files()
    reader_of(root, "val").check_files()
