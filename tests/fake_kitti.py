"""A SemanticKITTI folder small enough to be made by hand: two scans a sequence."""

import os

import numpy as np
from PIL import Image

# a camera 0.1 m before the LiDAR that looks along x, and camera 2 0.5 m to the right of it; P2's last column is not 0
TR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.1]])
P2 = np.array([[50.0, 0, 60, -25], [0, 50, 20, 0], [0, 0, 1, 0]])
SIZES = [(121, 41), (117, 43)]  # width, height of each scan's image
STEP = 2.0  # m between scans, along x

POINTS = np.array(
    [
        [10.1, 0, 0, 0.5],  # depth 10: u = 60 - 2.5, v = 20
        [5.1, -1, 0.5, 0.25],  # depth 5: u = 60 + 10 - 5, v = 20 - 5
        [-5.0, 0, 0, 0.0],  # behind
        [10.1, 40, 0, 0.1],  # far to the left
        [2.1, 0, 0.6, 1.0],  # depth 2: u = 60 - 12.5, v = 20 - 15
    ],
    np.float32,
)
PIXELS = np.array([[57.5, 20], [65, 15], [0, 0], [0, 0], [47.5, 5]])
SEEN = np.array([True, True, False, False, True])
RAW = np.array([10, (7 << 16) | 252, 40, 70, (65535 << 16) | 99], np.uint32)
LABELS = np.array([1, 1, 9, 15, 0])


def text(matrix):
    return " ".join(repr(float(value)) for value in np.ravel(matrix))


def write_sequence(root, name, labelled=True, scans=2):
    """One sequence whose camera moves along its own axis."""
    folder = os.path.join(root, "sequences", name)
    for part in ("velodyne", "labels", "image_2"):
        os.makedirs(os.path.join(folder, part))
    poses = np.tile(np.eye(4), (scans, 1, 1))
    poses[:, 2, 3] = STEP * np.arange(scans)  # z of the camera looks ahead
    files = {"calib.txt": [f"P2: {text(P2)}", f"Tr: {text(TR)}"], "poses.txt": [text(pose[:3]) for pose in poses]}
    for file, lines in files.items():
        with open(os.path.join(folder, file), "w") as stream:
            stream.write("".join(f"{line}\n" for line in lines))
    for i in range(scans):
        points = POINTS.copy()
        points.tofile(os.path.join(folder, "velodyne", f"{i:06d}.bin"))
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZES[i % 2][::-1], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(os.path.join(folder, "image_2", f"{i:06d}.png"))
        if labelled:
            RAW.tofile(os.path.join(folder, "labels", f"{i:06d}.label"))
    return folder
