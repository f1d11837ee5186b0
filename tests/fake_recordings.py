"""Own recordings small enough to be made by hand."""

import os

import numpy as np
import yaml
from PIL import Image

# the camera looks along x of the LiDAR
TO_CAMERA = [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]
CALIBRATION = {"cameras": {"front": {"intrinsics": [50, 50, 60, 20], "lidar_to_camera": TO_CAMERA}}}
CLASSES = {
    "ignored": [99],
    "classes": [
        {"name": "road", "ground": True, "raw": [40, 44], "color": [255, 0, 255]},
        {"name": "car", "thing": True, "raw": [10]},
        {"name": "building", "raw": [50]},
    ],
}
POINTS = np.array(
    [
        [10.0, 0, 0, 0.5],  # u = 60, v = 20
        [5.0, -1, 0.5, 200],  # u = 70, v = 15
        [np.nan, np.nan, np.nan, 0],
        [-5.0, 0, 0, 7],  # behind
    ],
    np.float32,
)
RAW = np.array([40, (3 << 16) | 10, 50, 99], np.uint32)
SIZE = (121, 41)


def write_recording(root, name="drive", frames=3, pictures=True, labels=True, poses=True, suffix=".bin"):
    """One recording; the vehicle moves 2 m a frame along x."""
    folder = os.path.join(root, name)
    os.makedirs(os.path.join(folder, "lidar"))
    with open(os.path.join(root, "classes.yaml"), "w") as file:
        yaml.safe_dump(CLASSES, file)
    for i in range(frames):
        path = os.path.join(folder, "lidar", f"{i:04d}{suffix}")
        if suffix == ".bin":
            POINTS.tofile(path)
        else:
            write_pcd(path, POINTS)
        if labels:
            os.makedirs(os.path.join(folder, "labels"), exist_ok=True)
            RAW.tofile(os.path.join(folder, "labels", f"{i:04d}.label"))
        if pictures:
            os.makedirs(os.path.join(folder, "cameras", "front"), exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (*SIZE[::-1], 3)).astype(np.uint8)
            Image.fromarray(pixels).save(os.path.join(folder, "cameras", "front", f"{i:04d}.png"))
    if pictures:
        write(os.path.join(folder, "calibration.yaml"), yaml.safe_dump(CALIBRATION))
    if poses:
        lines = [f"1 0 0 {2 * i} 0 1 0 0 0 0 1 0\n" for i in range(frames)]
        write(os.path.join(folder, "poses.txt"), "".join(lines))
    return folder


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def write_pcd(path, points, kind="binary"):
    """x, y, z, an intensity of one byte, padding, a field of COUNT 0, a ring."""
    dtype = np.dtype([("xyz", "<f4", 3), ("intensity", "u1"), ("_", "u1", 3), ("ring", "<u2")])
    rows = np.zeros(len(points), dtype)
    rows["xyz"], rows["intensity"], rows["_"] = points[:, :3], points[:, 3], 7
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z intensity _ nothing ring\nSIZE 4 4 4 1 1 4 2\nTYPE F F F U U F U\n"
        f"COUNT 1 1 1 1 3 0 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\n"
        f"DATA {kind}\n"
    )
    body = rows.tobytes()
    if kind == "ascii":
        body = "".join(f"{x} {y} {z} {int(i)} 7 7 7 0\n" for x, y, z, i in points).encode()
    with open(path, "wb") as file:
        file.write(header.encode() + body)
