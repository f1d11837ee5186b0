"""What every data set does alike: files that are missing, behind dead links or of wrong content; data sets in part."""

import os
from pathlib import Path

import numpy as np
import pytest

from core.datasets.catalog import open_dataset
from core.datasets.waymo.components import COMPONENTS
from tests.fake_kitti import write_sequence
from tests.fake_nuscenes import VERSION, write_fake_nuscenes
from tests.fake_recordings import write_recording
from tests.fake_waymo import SEGMENTS, write_fake_waymo
from tests.helpers import refused

VERSIONS = {"nuscenes": VERSION, "semantic_kitti": "v1.0", "waymo": "v2", "recordings": "v1"}
WRITE = {
    "nuscenes": write_fake_nuscenes,
    "semantic_kitti": lambda root: write_sequence(root, "00"),
    "waymo": write_fake_waymo,
    "recordings": write_recording,
}
NUSCENES = {
    "points": "samples/LIDAR_TOP/scene-0061-lidar0.pcd.bin",
    "labels": f"lidarseg/{VERSION}/scene-0061-lidar0_lidarseg.bin",
    "sweep": "sweeps/LIDAR_TOP/scene-0061-lidar2.pcd.bin",
    "image": "samples/CAM_BACK/scene-0061-CAM_BACK0.jpg",
    "folder": "samples/LIDAR_TOP",
}
KITTI = {
    name: f"sequences/00/{file}"
    for name, file in (
        ("points", "velodyne/000000.bin"),
        ("labels", "labels/000000.label"),
        ("image", "image_2/000000.png"),
    )
}
WAYMO = {component: f"training/{component}/{SEGMENTS[0]}.parquet" for component in COMPONENTS}
RECORDINGS = {"points": "drive/lidar/0000.bin", "labels": "drive/labels/0000.label"}
FILES = {"nuscenes": NUSCENES, "semantic_kitti": KITTI, "waymo": WAYMO, "recordings": RECORDINGS}
ALL_FILES = [(name, kind) for name, files in FILES.items() for kind in files]


@pytest.fixture
def opened(tmp_path):
    """Writes a data set; returns its root and a function that opens it."""

    def write(name):
        root = tmp_path / name
        root.mkdir()
        WRITE[name](root)
        sweeps = 0 if name == "waymo" else 2
        return root, lambda **keys: open_dataset(
            name, str(root), VERSIONS[name], "train", str(tmp_path / "index"), sweeps, keys
        )

    return write


def unmount(path):
    """Moves a file or folder away, and leaves a link to where there is nothing."""
    os.rename(path, f"{path}.away")
    os.symlink(f"/mnt/none/{os.path.basename(path)}", path)


@pytest.mark.parametrize(("name", "kind"), ALL_FILES)
@pytest.mark.parametrize("dead", [False, True], ids=["missing", "dead link"])
def test_files_that_are_not_there_are_named(opened, name, kind, dead):
    """Before any work; also by a reader whose index was built before."""
    root, open_reader = opened(name)
    path = root / FILES[name][kind]
    if name == "recordings" and not dead:  # a cloud that is not there is no frame, and labels may be few
        return
    if dead:
        open_reader().check_files(labels=True, sweeps=name != "waymo")
        unmount(path)
        words = (f"dead link to /mnt/none/{path.name} (is that disk mounted?)",)
    else:
        os.rename(path, f"{path}.away")
        words = ("is missing",)
    refused(lambda: open_reader().check_files(labels=True, sweeps=name != "waymo"), path, *words)


@pytest.mark.parametrize("name", ["", "lidar", "cameras", "cameras/front", "labels", "poses.txt", "calibration.yaml"])
def test_what_own_recordings_may_lack(opened, name):
    """Without it nothing would be missing: a dead link is told when the recordings are opened."""
    root, open_reader = opened("recordings")
    write_recording(root, "other")
    path = f"{root}/drive/{name}".rstrip("/")
    unmount(path)
    refused(open_reader, path, "dead link to /mnt/none/")


@pytest.mark.parametrize(
    ("name", "file", "left", "others", "words"),
    [
        ("nuscenes", "image", "scene-0061-lidar3", ["samples/LIDAR_TOP/scene-0061-lidar3.pcd.bin"], "of all 2 key"),
        ("semantic_kitti", "image", "00_000001", ["sequences/00/velodyne/000001.bin"], "no scan"),
        ("waymo", "camera_image", SEGMENTS[1], [f"training/lidar/{SEGMENTS[1]}.parquet"], "holds no segment of split"),
    ],
)
@pytest.mark.parametrize("dead", [False, True], ids=["missing", "dead link"])
def test_frames_that_are_whole_may_be_all(opened, name, file, left, others, words, dead):
    """Of a download in part, whichever way the index was built before."""
    root, open_reader = opened(name)
    before = open_reader()
    remove = unmount if dead else os.remove
    remove(root / FILES[name][file])
    refused(lambda: open_reader().check_files(), FILES[name][file])
    reader = open_reader(frames="available")
    reader.check_files()
    assert 0 < len(reader) < len(before) and all(left in token for token in reader.tokens())
    assert [frame.token for frame in reader] == reader.tokens()
    for other in others:
        remove(root / other)
    refused(lambda: open_reader(frames="available"), words)


def put(place, value, kind=np.float32):
    """Another value in a file of numbers."""

    def change(content):
        values = np.frombuffer(content, kind).copy()
        values[place] = value
        return values.tobytes()

    return change


def four_columns(content):
    """SemanticKITTI's four numbers a point where nuScenes has five."""
    rows = np.random.default_rng(0).uniform((-20, -20, -2, 0), (20, 20, 2, 1), (100, 4))
    return rows.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("name", "kind", "change", "words"),
    [
        *(("nuscenes", kind, lambda content: content[:-7], "bytes") for kind in ("points", "sweep")),
        ("nuscenes", "points", lambda content: b"", "0 bytes"),
        ("nuscenes", "points", put(15, np.nan), "not finite"),
        ("nuscenes", "points", put(17, -np.inf), "not finite"),
        ("nuscenes", "points", put(36, 1e9), "1e+09"),
        ("nuscenes", "points", put(38, 1e30), "intensity 1e+30"),
        ("nuscenes", "points", put(49, 64), "ring 64, expected whole numbers from 0 to 63"),
        *(("nuscenes", kind, four_columns, "float32 x, y, z, intensity, ring") for kind in ("points", "sweep")),
        ("nuscenes", "labels", lambda content: content[1:], "has 399 labels, its scan 400 points"),
        ("nuscenes", "labels", lambda content: bytes([40] * 400), "holds the raw label 40"),
        ("semantic_kitti", "points", lambda content: content[:-1], "has"),
        ("semantic_kitti", "points", lambda content: b"", "has"),
        ("semantic_kitti", "points", put(1, np.nan), "not finite"),
        *(
            ("semantic_kitti", "points", put(11, x), f"remission {x}, expected numbers from 0 to 1")
            for x in (1.5, -0.1)
        ),
        ("semantic_kitti", "labels", lambda content: content[4:], "has 4 labels, its scan 5 points"),
        ("semantic_kitti", "labels", lambda content: content * 2, "has 10 labels, its scan 5 points"),
        ("semantic_kitti", "labels", put(2, 12, np.uint32), "holds the raw label 12"),
        ("semantic_kitti", "labels", put(2, 300 | 1 << 16, np.uint32), "holds the raw label 300"),
        ("recordings", "labels", lambda content: content[4:], "has 3 labels, its cloud 4 points"),
        ("recordings", "labels", put(0, 41, np.uint32), "raw label 41, which no class has: add it to classes.yaml"),
        ("recordings", "points", lambda content: content[:-1], "not whole rows of 4 float32 columns"),
    ],
)
def test_files_of_wrong_content_are_named(opened, name, kind, change, words):
    root, open_reader = opened(name)
    path, reader = root / FILES[name][kind], open_reader()
    path.write_bytes(change(Path(path).read_bytes()))

    def read():
        for frame in reader:
            reader.load_labels(frame, len(reader.load_points(frame)))
            for sweep in frame.sweeps:
                reader.load_sweep(sweep)

    refused(read, path, words)
