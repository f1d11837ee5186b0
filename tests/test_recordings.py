"""Own recordings: what is read of them, and what is refused."""

import os

import numpy as np
import pytest
import yaml
from PIL import Image

from core.datasets.recordings import Recordings
from core.datasets.recordings.clouds import read_cloud
from core.errors import UserError
from tests.fake_recordings import (
    CALIBRATION,
    CLASSES,
    POINTS,
    SIZE,
    TO_CAMERA,
    write,
    write_pcd,
    write_recording,
)

XYZI = ["x", "y", "z", "intensity"]
FINITE = POINTS[[0, 1, 3]]


def opened(root, split="train", **keys):
    return Recordings(str(root), "v1", split, **keys)


@pytest.fixture
def root(tmp_path):
    write_recording(tmp_path)
    return tmp_path


def test_a_recording_with_everything(root):
    reader = opened(root, num_sweeps=2)
    assert reader.tokens() == ["drive_0000", "drive_0001", "drive_0002"]
    assert reader.classes.names == ("ignored", "road", "car", "building")
    assert (reader.classes.things, reader.classes.grounds, reader.features) == ((2,), (1,), ("intensity",))
    frame = reader.frame(2)
    points = reader.load_points(frame)
    np.testing.assert_array_equal(points, FINITE)  # the row of NaN is gone
    np.testing.assert_array_equal(reader.load_labels(frame, 3), [1, 2, 0])
    np.testing.assert_array_equal(reader.in_file(frame, np.array([1, 2, 3], np.uint8)), [1, 2, 0, 3])
    projection = reader.project(frame, points)
    np.testing.assert_array_equal(projection.seen, [True, True, False])
    np.testing.assert_allclose(projection.pixel[:2], [[60, 20], [70, 15]])
    assert reader.load_image(frame.cameras[0]).shape == (*SIZE[::-1], 3)
    np.testing.assert_array_equal([sweep.to_key[0, 3] for sweep in frame.sweeps], [-2, -4])
    reader.check_files(labels=True, sweeps=True)
    assert any("pictures for 3 of 3 clouds" in line for line in reader.notes())


def test_clouds_alone(tmp_path):
    """In the root itself, in a folder of any name: all that is needed."""
    for place in (tmp_path / "bare", tmp_path / "data" / "NAME", tmp_path / "kitti" / "00" / "velodyne"):
        os.makedirs(place)
        POINTS.tofile(place / "a.bin")
    write(tmp_path / "classes.yaml", yaml.safe_dump(CLASSES))
    for name, token in (("bare", "bare_a"), ("data", "NAME_a"), ("kitti", "00_a")):
        reader = opened(tmp_path / name, classes=str(tmp_path / "classes.yaml"))
        assert reader.tokens() == [token] and not reader.has_cameras and reader.frame(0).label_path is None
        assert not reader.project(reader.frame(0), FINITE).seen.any()


def test_times_match_pictures(root):
    """The camera runs at another rate and names its pictures otherwise; the second cloud is too far from any."""
    folder = root / "drive/cameras/front"
    for k in range(3):
        os.rename(folder / f"{k:04d}.png", folder / f"{100 + k}.png")
    write(root / "drive/times.txt", "10.0\n10.1\n10.2\n")
    write(folder / "times.txt", "9.9\n10.01\n10.22\n")
    frames = list(opened(root, time_tolerance=0.05))
    names = [[os.path.basename(view.image_path) for view in frame.cameras] for frame in frames]
    assert names == [["101.png"], [], ["102.png"]]


def test_a_moving_camera(root):
    """A camera with poses of its own: the vehicle has moved 1 m between cloud and picture."""
    turn = np.array(TO_CAMERA)[:, :3]
    lines = [" ".join(map(str, np.column_stack([turn.T, (2 * i + 1, 0, 0)]).ravel())) for i in range(3)]
    write(root / "drive/cameras/front/poses.txt", "\n".join(lines))
    reader = opened(root)
    pixel = reader.project(reader.frame(1), FINITE).pixel
    np.testing.assert_allclose(pixel[:2], [[60, 20], [60 + 50 / 4, 20 - 25 / 4]])


def test_kitti_odometry(tmp_path):
    folder = write_recording(tmp_path, pictures=False)
    os.rename(os.path.join(folder, "lidar"), os.path.join(folder, "velodyne"))
    os.makedirs(os.path.join(folder, "image_2"))
    Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(os.path.join(folder, "image_2", "0000.png"))
    p2 = [50, 0, 60, -25, 0, 50, 20, 0, 0, 0, 1, 0]
    text = f"P2: {' '.join(map(str, p2))}\nTr: {' '.join(map(str, np.ravel(TO_CAMERA)))}\n"
    write(os.path.join(folder, "calib.txt"), text)
    write(os.path.join(folder, "poses.txt"), "".join(f"1 0 0 0 0 1 0 0 0 0 1 {2 * i}\n" for i in range(3)))
    reader = opened(tmp_path, num_sweeps=1)
    np.testing.assert_allclose(reader.project(reader.frame(0), FINITE).pixel[0], [57.5, 20])
    np.testing.assert_allclose(
        reader.frame(1).sweeps[0].to_key, [[1, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    assert [len(frame.cameras) for frame in reader] == [1, 0, 0]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": ["*"]}, ["a_0000", "a_0001", "a_0002", "a_0003", "b_0000"]),
        ({"train": ["b", "a[1:3]"]}, ["a_0001", "a_0002", "b_0000"]),
        ({"train": ["*[0%:50%]"], "val": ["a[75%:]"]}, ["a_0000", "a_0001", "b_0000"]),
        ({"train": ["a[2s:]"]}, ["a_0002", "a_0003"]),
        ({"train": "a[:1]"}, ["a_0000"]),
        ({"val": ["a"]}, []),
    ],
)
def test_splits(tmp_path, splits, expected):
    write_recording(tmp_path, "a", frames=4, pictures=False)
    write_recording(tmp_path, "b", frames=1, pictures=False)
    assert opened(tmp_path, splits=splits).tokens() == expected


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ({"train": ["c"]}, "names no recording; there are: drive"),
        ({"train": ["drive[0%:5]"]}, "of one unit"),
        ({"train": ["drive[zero:5]"]}, "two numbers"),
        ({"train": ["drive[0:2"]}, "is none of NAME"),
        ({"train": ["drive[0:2]"], "val": ["drive[1:]"]}, "1 frames are in train and in val"),
    ],
)
def test_splits_that_make_no_sense(root, splits, words):
    with pytest.raises(UserError, match="dataset.splits") as error:
        opened(root, splits=splits)
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["ascii", "binary"])
def test_pcd_with_padding_and_nothing(tmp_path, kind):
    path = str(tmp_path / "a.pcd")
    write_pcd(path, POINTS, kind)
    cloud = read_cloud(path, XYZI)
    np.testing.assert_array_equal(cloud.points, [[10, 0, 0, 0], [5, -1, 0.5, 200], [-5, 0, 0, 7]])
    np.testing.assert_array_equal(cloud.rows, [0, 1, 3])
    assert read_cloud(path, ["x", "y", "z"]).points.shape == (3, 3)
    assert read_cloud(path, ["ring", "z", "y", "x"]).points.shape == (3, 4)


@pytest.mark.parametrize("options", [{"write_ascii": True}, {}, {"compressed": True}])
def test_pcd_as_open3d_writes_it(tmp_path, options):
    open3d = pytest.importorskip("open3d")
    rng = np.random.default_rng(0)
    points = np.round(rng.normal(size=(5000, 4)), 2).astype(np.float32)
    points[1000:3000, 1] = 1.5  # something to compress
    cloud = open3d.t.geometry.PointCloud(open3d.core.Tensor(np.ascontiguousarray(points[:, :3])))
    cloud.point.intensity = open3d.core.Tensor(np.ascontiguousarray(points[:, 3:]))
    path = str(tmp_path / "a.pcd")
    assert open3d.t.io.write_point_cloud(path, cloud, **options)
    np.testing.assert_allclose(read_cloud(path, XYZI).points, points, atol=1e-6)


def test_other_columns(tmp_path):
    path = str(tmp_path / "a.bin")
    np.column_stack([POINTS, np.arange(4), 10 * np.arange(4)]).astype(np.float32).tofile(path)
    columns = ["x", "y", "z", "_", "ring", "time"]
    np.testing.assert_array_equal(read_cloud(path, columns).points[:, 3:], [[0, 0], [1, 10], [3, 30]])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.bin", b"", "is empty"),
        ("a.bin", b"\0" * 20, "20 bytes, not whole rows of 4 float32 columns (x, y, z, intensity)"),
        ("a.bin", np.full(8, np.nan, np.float32).tobytes(), "2 points, none of them finite"),
        ("a.bin", np.full(8, 1e9, np.float32).tobytes(), "a point of coordinate 1e+09"),
        ("a.npy", b"no array", "is broken"),
        ("a.pcd", b"ply\nformat ascii\n", "it has no PCD header"),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 9\nDATA binary\n\0\0", "it ends early"),
        (
            "a.pcd",
            b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 1\nDATA binary\n" + 12 * b"\0",
            "no field 'intensity'",
        ),
        ("a.pcd", b"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA ascii\n1 2 3\n", "it ends early"),
        ("a.pcd", b"FIELDS x y\nSIZE 4 4 4\nTYPE F F F\nPOINTS 2\nDATA ascii\n1 2 3\n", "differ in length"),
        ("a.pcd", b"FIELDS x\nSIZE 4\nTYPE F\nPOINTS 2\nDATA zip\n", "DATA zip is unknown"),
    ],
)
def test_broken_clouds(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_cloud(str(path), XYZI)
    assert str(path) in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


def test_compressed_clouds_that_are_damaged(tmp_path):
    """Whatever byte is wrong: a UserError or other numbers, never a crash."""
    open3d = pytest.importorskip("open3d")
    cloud = open3d.t.geometry.PointCloud(open3d.core.Tensor(np.ones((50, 3), np.float32)))
    cloud.point.intensity = open3d.core.Tensor(np.ones((50, 1), np.float32))
    path = str(tmp_path / "a.pcd")
    open3d.t.io.write_point_cloud(path, cloud, compressed=True)
    with open(path, "rb") as file:
        whole = file.read()
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        with open(path, "wb") as file:
            file.write(damaged[: rng.integers(1, len(whole) + 1)])
        try:
            read_cloud(path, XYZI)
        except UserError as error:
            assert "\n" not in str(error)


def calibration(**changes):
    return yaml.safe_dump({"cameras": {"front": {**CALIBRATION["cameras"]["front"], **changes}}})


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("classes.yaml", None, "missing: it names the classes"),
        ("classes.yaml", "classes: [", "cannot be read as YAML"),
        (
            "classes.yaml",
            yaml.safe_dump({"classes": [{"name": f"c{i}"} for i in range(40)]}),
            "40 classes, expected at most 31",
        ),
        ("classes.yaml", "classes: [{name: car}, {name: car}]", "name 'car' stands there twice"),
        ("classes.yaml", "classes: [{name: car, raw: [7]}, {name: bus, raw: [7]}]", "raw label '7' stands there twice"),
        ("classes.yaml", "classes: [{name: car, colour: red}]", "unknown key 'colour'"),
        ("drive/poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n", "1 poses, expected 3, one for each cloud"),
        ("drive/poses.txt", "1 0 0 0 0 1 0 0 0 0 2 0\n" * 3, "line 1: its first three columns are no rotation"),
        ("drive/times.txt", "1\n2\n", "2 times, expected 3"),
        ("drive/calibration.yaml", calibration(lidar_to_camera=np.eye(4)[:3, ::-1].tolist()), "are no rotation"),
        ("drive/calibration.yaml", calibration(lidar_to_camera=[1, 2]), "2 numbers"),
        ("drive/calibration.yaml", calibration(intrinsics=[0, 1, 1, 1]), "is no camera matrix"),
        ("drive/calibration.yaml", calibration(distortion={"model": "barrel"}), "model 'barrel' is unknown"),
        (
            "drive/calibration.yaml",
            calibration(distortion={"model": "fisheye", "coefficients": [0] * 5}),
            "fisheye has 4",
        ),
        ("drive/calibration.yaml", "cameras: {rear: {intrinsics: [1], lidar_to_camera: []}}", "cameras.rear"),
        ("drive/calibration.yaml", "cameras: {}", "no calibration of camera front"),
    ],
)
def test_files_that_are_refused(root, path, text, words):
    if text is None:
        os.remove(root / path)
    else:
        write(root / path, text)
    with pytest.raises(UserError) as error:
        opened(root)
    assert str(root / path) in str(error.value) and words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("folder", "kind"), [("cameras/front", "picture"), ("labels", "label file")])
def test_stems_that_match_nothing(root, folder, kind):
    place = root / "drive" / folder
    for name in os.listdir(place):
        os.rename(place / name, place / f"x{name}")
    with pytest.raises(
        UserError, match=f"no {kind} is called as a cloud is \\(found 'x0000', clouds are called as '0000'"
    ):
        opened(root)
