"""Bags, KITTI raw and nuScenes through their importers; poses by KISS-ICP."""

import os

import numpy as np
import pytest
import yaml
from PIL import Image

from core.datasets.nuscenes import NuScenes
from core.datasets.recordings import Recordings
from core.errors import UserError
from core.synthetic.formats.recordings import calibration, recordings_rig
from core.synthetic.generate import City, generate_city
from core.synthetic.poses import quaternion
from tests.entry import run_script
from tests.fake_recordings import POINTS, TO_CAMERA, write

CITY = City("recordings", 1, 0, 0, frames=3, azimuth_steps=90, image_size=(32, 48), seed=7)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    root = tmp_path_factory.mktemp("street") / "city"
    generate_city(str(root), CITY)
    return root


def write_bag(path, street, version):
    """The frames of the city's first recording: clouds with padding, raw and compressed pictures, calibration."""
    rosbag1 = pytest.importorskip("rosbags.rosbag1")
    rosbag2 = pytest.importorskip("rosbags.rosbag2")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC if version == 1 else typesys.Stores.ROS2_HUMBLE)
    if version == 1:  # bags of ROS 1 carry the definitions of their messages
        definition = "geometry_msgs/TransformStamped[] transforms"
        store.register(typesys.get_types_from_msg(definition, "tf2_msgs/msg/TFMessage"))
    types = store.types
    header, stamp_type = types["std_msgs/msg/Header"], types["builtin_interfaces/msg/Time"]

    def head(time, frame):
        stamp = stamp_type(sec=100 + int(time), nanosec=round(time % 1 * 1e9))
        return header(seq=0, stamp=stamp, frame_id=frame) if version == 1 else header(stamp=stamp, frame_id=frame)

    def transform(parent, child, matrix):
        vector, turn = types["geometry_msgs/msg/Vector3"], types["geometry_msgs/msg/Quaternion"]
        w, x, y, z = quaternion(matrix[:3, :3])
        return types["geometry_msgs/msg/TransformStamped"](
            header=head(0, parent),
            child_frame_id=child,
            transform=types["geometry_msgs/msg/Transform"](
                translation=vector(**dict(zip("xyz", matrix[:3, 3], strict=True))), rotation=turn(x=x, y=y, z=z, w=w)
            ),
        )

    def info(time, camera, lens):
        roi = types["sensor_msgs/msg/RegionOfInterest"](x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        k = camera.intrinsic.ravel()
        numbers = {"k": k, "d": np.array(lens[1]), "r": np.eye(3).ravel(), "p": np.zeros(12)}
        if version == 1:
            numbers = {name.upper(): value for name, value in numbers.items()}
        return types["sensor_msgs/msg/CameraInfo"](
            header=head(time, camera.channel), height=camera.height, width=camera.width, distortion_model=lens[0],
            binning_x=0, binning_y=0, roi=roi, **numbers,
        )  # fmt: skip

    def cloud(time, points):
        fields = types["sensor_msgs/msg/PointField"]
        names = {"x": (0, 7), "y": (4, 7), "z": (8, 7), "intensity": (16, 2), "ring": (17, 4)}
        rows = np.zeros(len(points), [("xyz", "<f4", 3), ("pad", "<f4"), ("i", "u1"), ("ring", "<u2"), ("end", "u1")])
        rows["xyz"], rows["i"], rows["pad"] = points[:, :3], points[:, 3], 9
        listed = [fields(name=n, offset=o, datatype=d, count=1) for n, (o, d) in names.items()]
        data = np.frombuffer(rows.tobytes(), np.uint8)
        step = rows.itemsize
        return types["sensor_msgs/msg/PointCloud2"](
            header=head(time, "lidar"), height=1, width=len(points), fields=listed, is_bigendian=False,
            point_step=step, row_step=step * len(points), data=data, is_dense=True,
        )  # fmt: skip

    rig = recordings_rig(CITY.azimuth_steps, CITY.image_size)
    lenses = {"left": ("plumb_bob", [0.0] * 5), "right": ("equidistant", [0.1, 0.01, 0, 0]), "front": ("plumb_bob", [])}
    messages = [("/tf_static", "tf2_msgs/msg/TFMessage", 0.0, types["tf2_msgs/msg/TFMessage"](
        transforms=[transform("base", c.channel, c.to_vehicle) for c in rig.cameras]
        + [transform("base", "lidar", rig.lidar.to_vehicle)]
    ))]  # fmt: skip
    for i in range(CITY.frames):
        time, folder = 0.5 * i, street / "train_000"
        points = np.fromfile(folder / f"lidar/{i:06d}.bin", np.float32).reshape(-1, 4)
        messages.append(("/lidar/points", "sensor_msgs/msg/PointCloud2", time, cloud(time, points)))
        for camera in rig.cameras:
            name, seen = camera.channel, time + 0.01
            jpg = np.frombuffer((folder / f"cameras/{name}/{i:06d}.jpg").read_bytes(), np.uint8)
            messages.append(
                (f"/{name}/camera_info", "sensor_msgs/msg/CameraInfo", seen, info(seen, camera, lenses[name]))
            )
            if name == "front":
                pixels = np.asarray(Image.open(folder / f"cameras/{name}/{i:06d}.jpg"))[..., ::-1]
                image = types["sensor_msgs/msg/Image"](
                    header=head(seen, name), height=camera.height, width=camera.width, encoding="bgr8", is_bigendian=0,
                    step=3 * camera.width, data=np.ascontiguousarray(pixels).ravel(),
                )  # fmt: skip
                messages.append(("/front/image_raw", "sensor_msgs/msg/Image", seen, image))
            else:
                image = types["sensor_msgs/msg/CompressedImage"](header=head(seen, name), format="jpeg", data=jpg)
                messages.append((f"/{name}/image_raw/compressed", "sensor_msgs/msg/CompressedImage", seen, image))

    plugin = {2: rosbag2.StoragePlugin.SQLITE3, 3: rosbag2.StoragePlugin.MCAP}.get(version)
    writer = rosbag1.Writer(path) if version == 1 else rosbag2.Writer(path, version=9, storage_plugin=plugin)
    serialize = store.serialize_ros1 if version == 1 else store.serialize_cdr
    with writer:
        connections = {}
        for topic, kind, time, message in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], round((100 + time) * 1e9), serialize(message, kind))
    return rig


@pytest.mark.parametrize(("version", "name"), [(1, "drive.bag"), (2, "drive"), (3, "drive")])
def test_a_bag_gives_back_what_was_recorded(street, tmp_path, capsys, version, name):
    """ROS 1, ROS 2 and mcap."""
    rig = write_bag(tmp_path / name, street, version)
    command = ["import_recording", tmp_path / name, tmp_path / "dest", "--from", "rosbag"]
    run_script(*command)
    (tmp_path / "classes.yaml").write_bytes((street / "classes.yaml").read_bytes())
    imported = Recordings(str(tmp_path / "dest"), "v1", "train", classes=str(tmp_path / "classes.yaml"))
    original = Recordings(str(street), "v1", "train")
    assert imported.frame(0).scene == "drive" and len(imported) == 3
    for ours, theirs in zip(imported, original, strict=True):
        points = original.load_points(theirs)
        expected = points.copy()
        expected[:, 3] = np.floor(expected[:, 3])  # the bag holds bytes
        np.testing.assert_array_equal(imported.load_points(ours), expected)
        views = {view.name: view for view in theirs.cameras}
        assert {view.name for view in ours.cameras} == set(views)
        for view in ours.cameras:
            np.testing.assert_array_equal(imported.load_image(view), original.load_image(views[view.name]))
            if view.name == "right":
                assert view.lens.model == "fisheye" and view.lens.coefficients == (0.1, 0.01, 0, 0)
            else:
                assert view.lens is None
                np.testing.assert_allclose(view.lidar_to_image, views[view.name].lidar_to_image, atol=1e-6)
    blocks = yaml.safe_load((tmp_path / "dest/drive/calibration.yaml").read_text())["cameras"]
    for camera, block in calibration(rig).items():
        np.testing.assert_allclose(blocks[camera]["lidar_to_camera"], block["lidar_to_camera"], atol=1e-9)

    os.remove(tmp_path / "dest/drive/lidar" / os.path.basename(imported.frame(1).lidar_path))
    capsys.readouterr()
    run_script(*command)
    assert "1 files written" in capsys.readouterr().out
    for words, message in [
        (["--points-topic", "/radar"], "no topic /radar of sensor_msgs/msg/PointCloud2; there are: /lidar/points"),
        (["--image-topics", "/lidar/points"], "no topic /lidar/points of sensor_msgs/msg/Image"),
    ]:
        with pytest.raises(UserError, match=message):
            run_script(*command, *words)


def test_kitti_raw(tmp_path):
    """A drive along latitude: 2 m north a frame, the vehicle heading east."""
    day, drive = tmp_path / "2011_09_26", tmp_path / "2011_09_26/2011_09_26_drive_0001_sync"
    for part in ("velodyne_points/data", "image_02/data", "oxts/data"):
        os.makedirs(drive / part)
    for i in range(3):
        POINTS.tofile(drive / f"velodyne_points/data/{i:010d}.bin")
        Image.fromarray(np.full((41, 121, 3), i, np.uint8)).save(drive / f"image_02/data/{i:010d}.png")
        degrees = np.degrees(2 * i / 6378137.0)
        write(drive / f"oxts/data/{i:010d}.txt", f"{degrees} 8.4 112 0 0 0 " + "0 " * 24)
    stamps = [f"2011-09-26 13:02:2{i}.500000000" for i in range(3)]
    write(drive / "velodyne_points/timestamps.txt", "\n".join(stamps))
    numbers = [" ".join(map(str, row)) for row in (np.array(TO_CAMERA)[:, :3].ravel(), np.eye(3).ravel())]
    write(day / "calib_velo_to_cam.txt", f"calib_time: 1\nR: {numbers[0]}\nT: 0 0 0\n")
    write(day / "calib_imu_to_velo.txt", f"calib_time: 1\nR: {numbers[1]}\nT: -0.5 0 0\n")
    p = "50 0 60 -25 0 50 20 0 0 0 1 0"
    write(day / "calib_cam_to_cam.txt", f"calib_time: 1\nR_rect_00: {numbers[1]}\nP_rect_02: {p}\n")
    write(tmp_path / "classes.yaml", "classes: [{name: car}]")
    run_script("import_recording", day, tmp_path / "dest", "--from", "kitti-raw")
    reader = Recordings(str(tmp_path / "dest"), "v1", "train", num_sweeps=1, classes=str(tmp_path / "classes.yaml"))
    frame = reader.frame(1)
    points = reader.load_points(frame)
    np.testing.assert_allclose(reader.project(frame, points).pixel[0], [57.5, 20])
    np.testing.assert_allclose(frame.sweeps[0].to_key[:3, 3], [0, -2, 0], atol=1e-6)
    assert np.diff(reader.recordings["2011_09_26_drive_0001_sync"].times).tolist() == [1, 1]


def test_nuscenes(city, tmp_path):
    """Clouds, labels and projections are those of nuScenes' own reader."""
    run_script("import_recording", city, tmp_path / "dest", "--from", "nuscenes")
    ours = Recordings(str(tmp_path / "dest"), "v1", "train")
    theirs = NuScenes(str(city), "v1.0-trainval", "train", str(tmp_path / "index"), 0)
    scenes = {frame.scene for frame in theirs}
    assert ours.classes.names == theirs.classes.names and ours.classes.things == theirs.classes.things
    pairs = list(zip([f for f in ours if f.scene in scenes], sorted(theirs, key=lambda f: f.scene), strict=True))
    for mine, other in pairs:
        points = theirs.load_points(other)
        np.testing.assert_array_equal(ours.load_points(mine), points)
        np.testing.assert_array_equal(ours.load_labels(mine, len(points)), theirs.load_labels(other, len(points)))
        found, expected = ours.project(mine, points), theirs.project(other, points)
        agree = found.camera == expected.camera
        assert agree.mean() > 0.999
        np.testing.assert_allclose(found.pixel[agree], expected.pixel[agree], atol=1e-2)


def test_poses_by_kiss_icp(street, tmp_path):
    """A street past which the sensor moves a third of a metre a frame."""
    pytest.importorskip("kiss_icp.kiss_icp")
    os.makedirs(tmp_path / "drive")
    points = np.fromfile(street / "train_000/lidar/000000.bin", np.float32).reshape(-1, 4)
    for i in range(6):
        moved = points.copy()
        moved[:, 0] -= 0.3 * i
        moved.tofile(tmp_path / f"drive/{i}.bin")
    run_script("import_recording", tmp_path / "drive", "--poses", "kiss-icp")
    found = np.loadtxt(tmp_path / "drive/poses.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(found[:, :, 3], [[0.3 * i, 0, 0] for i in range(6)], atol=0.05)
