"""Small hand-written files of Waymo Open v2, with numbers that a test can tell: 4 x 12 cells, images of 32 x 20.

Two segments; in each three turns of the LiDAR, the first and the last with labels. Cells, labels and pixels say of
themselves where they are: see `range_images`, `labels`, `projection`.
"""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.spatial.transform import Rotation

SEGMENTS = ("1000_20_000_40_000", "2000_40_000_60_000")
TIMES = (1_000_000_000_000_100, 1_000_000_000_100_100, 1_000_000_000_200_100)
LABELLED = (TIMES[0], TIMES[2])
HEIGHT, WIDTH = 4, 12
IMAGE_WIDTH, IMAGE_HEIGHT, SIDE_HEIGHT = 32, 20, 14
INCLINATIONS = (-0.3, -0.2, -0.05, 0.04)  # lowest beam first, as in the files
EXTRINSIC = np.eye(4)
EXTRINSIC[:3, :3] = Rotation.from_euler("xyz", (0.01, -0.02, 2.6)).as_matrix()
EXTRINSIC[:3, 3] = 1.43, 0.02, 2.18
CAMERAS = {1: IMAGE_HEIGHT, 2: IMAGE_HEIGHT, 3: IMAGE_HEIGHT, 4: SIDE_HEIGHT, 5: SIDE_HEIGHT}


def vehicle_pose(seconds):
    """roll, pitch, yaw, x, y, z of a vehicle that moves and turns fast."""
    return np.array([0.02 * np.sin(seconds), 0.03 * seconds, 1.9 + 0.8 * seconds, 400 + 12 * seconds, -300.0, 20.0])


def matrix(pose):
    """[4, 4] of roll, pitch, yaw (about the fixed x, then y, then z) and x, y, z."""
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("xyz", pose[:3]).as_matrix()
    result[:3, 3] = pose[3:]
    return result


def seconds_of(time):
    return (time - TIMES[0]) / 1e6


def cell_poses(time):
    """float32 [H, W, 6]: each column is measured a little later than the one before."""
    columns = [vehicle_pose(seconds_of(time) + 0.008 * (column - 5)) for column in range(WIDTH)]
    return np.broadcast_to(np.array(columns), (HEIGHT, WIDTH, 6)).astype(np.float32)


def range_images(time):
    """Two float32 [H, W, 4]; every fifth cell has no echo; one in three of the others has a second one behind it."""
    rng = np.random.default_rng(time)
    first = rng.uniform(2, 60, (HEIGHT, WIDTH, 4)).astype(np.float32)
    first[..., 1] *= 0.1
    first.reshape(-1, 4)[::5] = -1
    second = np.full_like(first, -1)
    cells = np.flatnonzero(first[..., 0] > 0)[::3]
    second.reshape(-1, 4)[cells] = first.reshape(-1, 4)[cells] + (5, 0.1, 0.2, 0)
    return first, second


def labels():
    """Two int32 [H, W, 2], instance and class: the class tells row and column, whatever the echo."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    first = np.stack([row, (row * 5 + column) % 23], axis=-1)
    second = np.stack([row, (row * 5 + column + 1) % 23], axis=-1)
    return first.astype(np.int32), second.astype(np.int32)


def projection():
    """Two int32 [H, W, 6]; columns 0..3 see no camera, 4..7 camera 2, 8..11 cameras 4 and 1, at (row + 1, column)."""
    image = np.zeros((HEIGHT, WIDTH, 6), np.int32)
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    image[:, 4:8, 0], image[:, 8:, 0], image[:, 8:, 3] = 2, 4, 1
    image[..., 1], image[..., 2] = np.where(image[..., 0] > 0, column, 0), np.where(image[..., 0] > 0, row + 1, 0)
    image[:, 8:, 4], image[:, 8:, 5] = 20, row[:, 8:]
    second = image.copy()
    second[..., 1] += second[..., 0] > 0
    return image, second


def camera_image(camera):
    """JPEG of one grey."""
    buffer = io.BytesIO()
    Image.new("RGB", (IMAGE_WIDTH, CAMERAS[camera]), (40 * camera,) * 3).save(buffer, "JPEG")
    return buffer.getvalue()


def write(path, columns, group=1):
    """Writes a Parquet file of `group` rows a row group; columns {name: (values, type)}."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    table = pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})
    pq.write_table(table, path, row_group_size=group)


def returns(prefix, pairs, kind):
    """Columns of range images: pairs of returns, one per row; a None stands for an image that is not there."""
    columns = {}
    for number in range(len(pairs[0])):
        images = [pair[number] for pair in pairs]
        name = f"[{prefix}].range_image_return{number + 1}"
        columns[f"{name}.values"] = ([image.reshape(-1) for image in images], pa.list_(kind))
        columns[f"{name}.shape"] = ([list(image.shape) for image in images], pa.list_(pa.int32()))
    return columns


def keys(segment, times, sensors=None, sensor="laser_name"):
    rows = [(time, which) for time in times for which in (sensors or [None])]
    columns = {
        "key.segment_context_name": ([segment] * len(rows), pa.string()),
        "key.frame_timestamp_micros": ([time for time, _ in rows], pa.int64()),
    }
    if sensors:
        columns[f"key.{sensor}"] = ([which for _, which in rows], pa.int8())
    return rows, columns


def write_segment(folder, segment, labelled=LABELLED, times=TIMES, group=1):
    """All components of a segment; the LiDAR has a second laser, whose rows come first."""

    def component(name, columns, rows_of_group=group):
        write(os.path.join(folder, name, f"{segment}.parquet"), columns, rows_of_group)

    rows, columns = keys(segment, times, (2, 1))
    pairs = [range_images(time) if laser == 1 else (np.zeros((1, 2, 4), np.float32),) * 2 for time, laser in rows]
    component("lidar", columns | returns("LiDARComponent", pairs, pa.float32()))
    rows, columns = keys(segment, times, (1,))
    poses, pixels = [(cell_poses(time),) for time, _ in rows], [projection() for _ in rows]
    component("lidar_pose", columns | returns("LiDARPoseComponent", poses, pa.float32()))
    component("lidar_camera_projection", columns | returns("LiDARCameraProjectionComponent", pixels, pa.int32()))
    if labelled is not None:
        rows, columns = keys(segment, labelled, (1,))
        pairs = [labels() for _ in rows]
        component("lidar_segmentation", columns | returns("LiDARSegmentationLabelComponent", pairs, pa.int32()))
    rows, columns = keys(segment, times, tuple(CAMERAS), "camera_name")
    columns["[CameraImageComponent].image"] = ([camera_image(camera) for _, camera in rows], pa.binary())
    component("camera_image", columns)
    rows, columns = keys(segment, times)
    transforms = [matrix(vehicle_pose(seconds_of(time))).reshape(-1) for time, _ in rows]
    columns["[VehiclePoseComponent].world_from_vehicle.transform"] = (transforms, pa.list_(pa.float64()))
    component("vehicle_pose", columns)
    calibration = {
        "extrinsic.transform": ([np.eye(4).reshape(-1), EXTRINSIC.reshape(-1)], pa.list_(pa.float64())),
        "beam_inclination.min": ([-1.5, -0.3], pa.float64()),
        "beam_inclination.max": ([0.5, 0.04], pa.float64()),
        "beam_inclination.values": ([None, list(INCLINATIONS)], pa.list_(pa.float64())),
    }
    columns = {"key.segment_context_name": ([segment] * 2, pa.string()), "key.laser_name": ([2, 1], pa.int8())}
    columns |= {f"[LiDARCalibrationComponent].{name}": column for name, column in calibration.items()}
    component("lidar_calibration", columns, 1)
    columns = {
        "key.segment_context_name": ([segment] * 5, pa.string()),
        "key.camera_name": (list(CAMERAS)[::-1], pa.int8()),
        "[CameraCalibrationComponent].width": ([IMAGE_WIDTH] * 5, pa.int32()),
        "[CameraCalibrationComponent].height": (list(CAMERAS.values())[::-1], pa.int32()),
    }
    component("camera_calibration", columns, 1)


def write_fake_waymo(root, test=False, group=1):
    """Training of both segments, validation of the first; with `test` also a test split and its list of frames.

    Row groups have `group` rows; the reader takes files of one alone.
    """
    for segment in SEGMENTS:
        write_segment(os.path.join(root, "training"), segment, group=group)
    write_segment(os.path.join(root, "validation"), SEGMENTS[0], group=group)
    if test:
        for segment in SEGMENTS:
            write_segment(os.path.join(root, "testing"), segment, labelled=None, group=group)
        with open(os.path.join(root, "test_frames.txt"), "w", encoding="utf-8") as file:
            file.write("".join(f"{segment},{TIMES[1]}\n" for segment in SEGMENTS[::-1]) + f"{SEGMENTS[0]},{TIMES[0]}\n")


def edit(path, change):
    """Rewrites a Parquet file: `change` takes its columns {name: list} and changes them in place."""
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    kept = {name: pa.array(values, table.schema.field(name).type) for name, values in columns.items()}
    pq.write_table(pa.table(kept), path, row_group_size=1)
