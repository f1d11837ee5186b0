"""The reader of Waymo Open v2, on hand-written files: every number is computed here a second way."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.datasets.waymo import Waymo
from core.datasets.waymo import index as waymo_index
from core.datasets.waymo.components import MOST_OPEN
from core.datasets.waymo.files import read_test_frames
from core.datasets.waymo.pack import pack_split
from core.errors import UserError
from tests import fake_waymo
from tests.fake_waymo import HEIGHT, LABELLED, SEGMENTS, TIMES, WIDTH, edit, matrix, range_images


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    root = tmp_path_factory.mktemp("waymo") / "data"
    fake_waymo.write_fake_waymo(root, test=True)
    return root


@pytest.fixture(scope="module", params=["one row a group", "packed from one group a segment"])
def files(request, plain, tmp_path_factory):
    """Nobody changes it."""
    if request.param == "one row a group":
        return plain
    folder = tmp_path_factory.mktemp("packed")
    fake_waymo.write_fake_waymo(folder / "download", test=True, group=1000)
    wanted = read_test_frames(str(folder / "download/test_frames.txt"))
    for split in ("train", "val", "test"):
        pack_split(str(folder / "download"), str(folder / "data"), split, wanted if split == "test" else None, 10)
    shutil.copy(folder / "download/test_frames.txt", folder / "data")
    return folder / "data"


@pytest.fixture
def root(plain, tmp_path):
    """A copy that the test may damage."""
    return Path(shutil.copytree(plain, tmp_path / "data"))


def open_reader(root, split="train", num_sweeps=0, **changes):
    index = root.parent / "index"
    return Waymo(str(root), "v2", split, str(index), num_sweeps, str(root / "test_frames.txt"), **changes)


def world_points(time):
    """The points of a turn in the world, [N, 3], by matrices: first all of return 1, row by row, then return 2."""
    extrinsic, poses, points = fake_waymo.EXTRINSIC, fake_waymo.cell_poses(time).astype(np.float64), []
    for image in range_images(time):
        for row, column in np.argwhere(image[..., 0] > 0):
            turn = ((WIDTH - column - 0.5) / WIDTH * 2 - 1) * np.pi - np.arctan2(extrinsic[1, 0], extrinsic[0, 0])
            up = fake_waymo.INCLINATIONS[HEIGHT - 1 - row]
            ray = np.array([np.cos(turn) * np.cos(up), np.sin(turn) * np.cos(up), np.sin(up)])
            place = np.append(float(image[row, column, 0]) * ray, 1)
            points.append((matrix(poses[row, column]) @ extrinsic @ place)[:3])
    return np.array(points)


def masks(time):
    return [image[..., 0] > 0 for image in range_images(time)]


def test_points_of_both_returns_are_where_they_are_in_the_world(files):
    reader = open_reader(files)
    for index, time in enumerate(LABELLED):
        frame = reader.frame(index)
        points = reader.load_points(frame)
        assert points.dtype == np.float32 and points.shape == (sum(mask.sum() for mask in masks(time)), 5)
        pose = matrix(fake_waymo.vehicle_pose(fake_waymo.seconds_of(time)))
        in_world = points[:, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
        np.testing.assert_allclose(in_world, world_points(time), atol=1e-4)  # poses are float32
        first, second = range_images(time)
        values = np.concatenate([first[first[..., 0] > 0], second[second[..., 0] > 0]])
        np.testing.assert_array_equal(points[:, 3], np.tanh(values[:, 1]))
        np.testing.assert_array_equal(points[:, 4], values[:, 2])


def test_earlier_turns_move_with_the_vehicle(files):
    reader = open_reader(files, num_sweeps=5)
    assert [len(frame.sweeps) for frame in reader] == [0, 2, 0, 2]  # none from the segment before
    frame = reader.frame(1)
    to_world = matrix(fake_waymo.vehicle_pose(fake_waymo.seconds_of(TIMES[2])))
    for sweep, time in zip(frame.sweeps, (TIMES[1], TIMES[0]), strict=True):
        xyz = reader.load_sweep(sweep)[:, :3].astype(np.float64)
        moved = xyz @ sweep.to_key[:3, :3].T + sweep.to_key[:3, 3]
        np.testing.assert_allclose(moved @ to_world[:3, :3].T + to_world[:3, 3], world_points(time), atol=1e-4)
    assert len(open_reader(files, num_sweeps=1).frame(1).sweeps) == 1
    with pytest.raises(UserError, match=r"dataset.num_sweeps is 11, at most 10"):
        open_reader(files, num_sweeps=11)


def test_labels_stay_with_their_points(files):
    reader = open_reader(files)
    frame = reader.frame(3)
    expected = np.concatenate(
        [image[..., 1][mask] for image, mask in zip(fake_waymo.labels(), masks(TIMES[2]), strict=True)]
    )
    found = reader.load_labels(frame, len(reader.load_points(frame)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(open_reader(files).load_labels(frame, len(expected)), expected)  # points not loaded


def test_pixels_stay_with_their_points(files):
    """Camera 4 is later than camera 1 and counts, but not on the rim of its image, which is lower than others."""
    reader = open_reader(files)
    frame = reader.frame(0)
    points = reader.load_points(frame)
    found = reader.project(frame, points)
    camera, pixel = [], []
    for image, mask in zip(fake_waymo.projection(), masks(TIMES[0]), strict=True):
        for name1, u1, v1, name2, u2, v2 in image[mask]:
            seen = {}
            for name, u, v in ((name1, u1, v1), (name2, u2, v2)):
                height = fake_waymo.SIDE_HEIGHT if name >= 4 else fake_waymo.IMAGE_HEIGHT
                if name and 0 < u < fake_waymo.IMAGE_WIDTH - 1 and 0 < v < height - 1:
                    seen[name] = (u, v)
            camera.append(max(seen, default=0) - 1)
            pixel.append(seen[max(seen)] if seen else (0, 0))
    np.testing.assert_array_equal(found.camera, camera)
    np.testing.assert_array_equal(found.pixel, pixel)
    assert found.camera.dtype == np.int8 and found.pixel.dtype == np.float64
    assert set(found.camera.tolist()) == {-1, 1, 3}


def test_images_of_two_sizes_are_padded_to_one(files):
    reader = open_reader(files)
    views = reader.frame(0).cameras
    assert [view.name for view in views] == ["FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT"]
    assert {(view.width, view.height) for view in views} == {(fake_waymo.IMAGE_WIDTH, fake_waymo.IMAGE_HEIGHT)}
    for camera, view in enumerate(views, 1):
        image = reader.load_image(view)
        assert image.shape == (fake_waymo.IMAGE_HEIGHT, fake_waymo.IMAGE_WIDTH, 3) and image.dtype == np.uint8
        height = fake_waymo.SIDE_HEIGHT if camera > 3 else fake_waymo.IMAGE_HEIGHT
        assert np.abs(image[:height].astype(int) - 40 * camera).max() <= 2
        assert not image[height:].any()


def test_frames(files):
    reader = open_reader(files)
    assert reader.tokens() == [f"{segment}_{time}" for segment in SEGMENTS for time in LABELLED]
    assert [frame.token for frame in reader] == reader.tokens() and len(reader) == 4
    frame = reader.frame(2)
    assert frame.scene == SEGMENTS[1] and frame.timestamp == TIMES[0] and reader.has_labels(frame)
    assert frame.cameras[4].token == f"{SEGMENTS[1]}_{TIMES[0]}_SIDE_RIGHT"
    reader.check_files()
    assert len(open_reader(files, "val")) == 2


def test_test_split_has_the_listed_frames(files):
    reader = open_reader(files, "test")
    assert reader.tokens() == [f"{SEGMENTS[0]}_{TIMES[0]}", f"{SEGMENTS[0]}_{TIMES[1]}", f"{SEGMENTS[1]}_{TIMES[1]}"]
    frame = reader.frame(1)
    assert frame.label_path is None and not reader.has_labels(frame)
    assert len(reader.load_points(frame)) == sum(mask.sum() for mask in masks(TIMES[1]))
    reader.check_files(labels=False)
    with pytest.raises(UserError, match="without labels"):
        reader.check_files()
    with pytest.raises(UserError, match="without"):
        reader.load_labels(frame, 3)


def test_index_is_built_once_and_again_for_other_files(root, monkeypatch):
    builds = []
    build = waymo_index.build_index
    monkeypatch.setattr(waymo_index, "build_index", lambda *args: builds.append(args) or build(*args))
    index = root.parent / "index/train.npz"
    changes = (
        lambda: None,
        lambda: os.utime(root / f"training/lidar/{SEGMENTS[0]}.parquet", ns=(1, 1)),
        lambda: [path.unlink() for path in root.glob(f"training/*/{SEGMENTS[1]}.parquet")],
        lambda: index.write_bytes(b"PK half a file"),
        lambda: np.savez(index, meta=np.frombuffer(b'{"format": 0}', np.uint8)),
    )
    for count, change in enumerate(changes, 1):
        change()
        assert len(open_reader(root)) == len(open_reader(root)) == (4 if count < 3 else 2) and len(builds) == count


def test_few_files_stay_open_and_none_travels(files):
    reader = open_reader(files)
    for _ in range(2):
        for frame in reader:
            reader.load_labels(frame, len(reader.load_points(frame)))
            reader.load_image(frame.cameras[0])
            reader.project(frame, reader.load_points(frame))
    assert len(reader._files._open) <= MOST_OPEN
    copy = pickle.loads(pickle.dumps(reader))
    assert not copy._files._open
    np.testing.assert_array_equal(copy.load_points(copy.frame(1)), reader.load_points(reader.frame(1)))


def edited(component, name, values):
    """A change of a file: other values in a column."""
    column = name if name.startswith("key.") else f"[{component}].{name}"
    return lambda path: edit(path, lambda columns: columns.update({column: values(columns[column])}))


def narrow(columns):
    for name in columns:
        if name.endswith(".shape"):
            columns[name] = [[HEIGHT, WIDTH // 2, 4] for _ in columns[name]]
        if name.endswith(".values"):
            columns[name] = [[1] * (HEIGHT * WIDTH * 2) for _ in columns[name]]


def spoiled(path):
    """All but the ends of a file are zeros."""
    content = bytearray(path.read_bytes())
    content[40:-3000] = bytes(len(content) - 3040)
    path.write_bytes(content)


emptied = lambda columns: [values.clear() for values in columns.values()]  # noqa: E731
later = edited("", "key.frame_timestamp_micros", lambda times: [time + (time == TIMES[2]) for time in times])
shortened = edited("LiDARComponent", "range_image_return1.values", lambda rows: [row[:-1] for row in rows])
class_23 = edited("LiDARSegmentationLabelComponent", "range_image_return1.values", lambda rows: [[23] * 96] * 2)
low_images = edited("CameraCalibrationComponent", "height", lambda heights: [13, 14, 20, 20, 20])
NOT_JOINED = rf"no row with .*{TIMES[2]}, which .*lidar_segmentation"
OTHER_SEGMENT = "holds segment 2000.*; download component lidar of Waymo Open v2"
OTHER_COMPONENT = "no column key.laser_name, so it is not component lidar of Waymo"


@pytest.mark.parametrize(
    ("component", "change", "message"),
    [
        ("lidar_segmentation", lambda path: edit(path, emptied), "no labelled frame of the TOP LiDAR"),
        *((name, later, NOT_JOINED) for name in ("lidar", "lidar_pose", "camera_image", "vehicle_pose")),
        ("lidar", lambda path: shutil.copy(path.with_name(f"{SEGMENTS[1]}.parquet"), path), OTHER_SEGMENT),
        (
            "lidar",
            lambda path: shutil.copy(path.parents[1] / f"vehicle_pose/{path.name}", path),
            OTHER_COMPONENT,
        ),
        ("camera_image", lambda path: path.write_bytes(b""), "not readable as Parquet"),
        ("camera_image", lambda path: os.truncate(path, 3000), "not readable as Parquet"),
    ],
)
def test_files_that_make_no_index(root, component, change, message):
    change(root / f"training/{component}/{SEGMENTS[0]}.parquet")
    with pytest.raises(UserError, match=f"{component}/1000.*: {message}") as error:
        open_reader(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("component", "change", "message"),
    [
        ("lidar_pose", spoiled, "lidar_pose/1000.*; download component lidar_pose"),
        ("lidar_segmentation", lambda path: edit(path, narrow), r"images \(4, 6, 4\), its range images \(4, 12\)"),
        (
            "lidar_pose",
            lambda path: edit(path, narrow),
            r"pose image \[4, 6, 4\] and 4 beams for a range image of 4 x 12",
        ),
        ("lidar", shortened, r"lidar/1000.*: a range image of shape \[4, 12, 4\] has 191 values"),
        ("lidar_segmentation", class_23, r"holds classes \d+..23, expected 0..22"),
        ("camera_calibration", low_images, "SIDE_RIGHT in .*camera_image.* is 32x14, the data set's tables say 32x13"),
    ],
)
def test_what_is_damaged_inside_is_found_when_it_is_read(root, component, change, message):
    """The index needs the keys alone."""
    reader = open_reader(root)
    change(root / f"training/{component}/{SEGMENTS[0]}.parquet")
    if change is not spoiled:
        reader = open_reader(root)
    frame = reader.frame(0)
    with pytest.raises(UserError, match=message):
        reader.load_labels(frame, len(reader.load_points(frame)))
        reader.load_image(frame.cameras[4])


def test_available_segments_of_the_test_split(root):
    whole = open_reader(root, "test")
    again = open_reader(root, "test", frames="available")
    assert again.tokens() == whole.tokens()
    (root / "test_frames.txt").write_text(f"{SEGMENTS[0]},{TIMES[0]}\n3000_0,5\n")
    assert {frame.segment for frame in open_reader(root, "test", frames="available")} == {SEGMENTS[0]}


def test_list_of_test_frames(root):
    with pytest.raises(UserError, match=r"dataset.test_frames .*nowhere.txt cannot be read"):
        Waymo(str(root), "v2", "test", str(root.parent / "index"), 0, str(root / "nowhere.txt"))
    path = root / "test_frames.txt"
    for text, message in (
        ("", "lists no frames"),
        ("abc\n", "line 1: expected 'segment,timestamp', found 'abc'"),
        (f"{SEGMENTS[0]},{TIMES[0]}\n3000_0,5\n", "lacks 1 of the 2 segments that dataset.test_frames lists.* 3000_0"),
        (f"{SEGMENTS[0]},77\n", r"lidar/1000.*: no row with .* 77, which dataset.test_frames has"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            open_reader(root, "test")
