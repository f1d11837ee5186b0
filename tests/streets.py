"""A made-up data set for the tests of preparation; light to import, as each worker process does."""

import os

import numpy as np
from PIL import Image

from core.datasets.base import Reader
from core.datasets.frame import CameraView, ClassTable, Frame, Sweep
from core.errors import UserError

# a camera at the sensor that looks along x; u to the right (-y), v down (-z)
TO_IMAGE = np.array([[48.0, -48, 0, 0], [32, 0, -48, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


class Streets(Reader):
    """A few made-up frames with two cameras each."""

    name, version, split = "streets", "v1", "train"

    def __init__(self, root, num_frames=5, broken=None):
        self.root, self.num_frames, self.broken = str(root), num_frames, broken
        self.classes = ClassTable(
            ("ignored", "car", "road", "manmade"), (1,), np.zeros((4, 3), np.uint8), np.arange(4, dtype=np.uint8)
        )
        os.makedirs(self.root, exist_ok=True)
        for i in range(num_frames):
            pixels = np.random.default_rng(i).integers(0, 256, (8, 12, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(f"{self.root}/{i}.png")

    def __len__(self):
        return self.num_frames

    def frame(self, index):
        cameras = tuple(
            CameraView(name, f"{name}_{index}", f"{self.root}/{index}.png", 96, 64, TO_IMAGE)
            for name in ("left", "right")
        )
        step = np.eye(4)
        step[0, 3] = -0.5
        return Frame(f"frame{index}", "scene", str(index), str(index), cameras, (Sweep(str(index + 1), step),))

    def load_points(self, frame):
        return self.load(frame.lidar_path)

    def load_sweep(self, sweep):
        return self.load(sweep.path)

    def load(self, path):
        if path == self.broken:
            raise UserError(f"no points in {path}")
        return self.street(int(path))[0]

    def open_submission(self, directory):
        raise AssertionError("no benchmark of streets")

    def load_labels(self, frame, num_points):
        return self.street(int(frame.label_path))[1]

    def check_files(self, labels=True, sweeps=False):
        pass

    @staticmethod
    def street(seed):
        rng = np.random.default_rng(seed)
        road = rng.uniform((4, -4, -1.82), (30, 4, -1.78), (3000, 3))
        car = rng.uniform((9, -1, -1.2), (11, 1, -0.3), (200, 3))
        wall = rng.uniform((20, 3, -1), (20.3, 6, 2), (300, 3))
        points = np.column_stack([np.concatenate([road, car, wall]), rng.uniform(0, 255, 3500)])
        labels = np.repeat(np.array([2, 1, 3], np.uint8), [3000, 200, 300])
        return points.astype(np.float32), labels
