"""Frames at the full size of nuScenes for the benchmarks: real ones, or of the made-up city."""

import os
from dataclasses import replace

import numpy as np

from core.datasets.frame import Frame, Sweep
from core.datasets.nuscenes import NuScenes
from core.synthetic.generate import City, generate_city

CITY = City("nuscenes", 1, 0, 0, frames=2, azimuth_steps=1084, image_size=(900, 1600), seed=0)
_NUM_SWEEPS = 5


def open_frame(root: str | None, folder: str, version: str = "v1.0-mini") -> tuple[NuScenes, Frame]:
    """A training frame with five earlier sweeps, and its reader.

    Args:
        root: a nuScenes data root; None makes the city in `folder`.
        folder: for the index, the city and made-up sweeps.
        version: of the data in `root`.
    """
    index = os.path.join(folder, "index")
    if root is None:
        city = os.path.join(folder, "city")
        generate_city(city, CITY)
        reader = NuScenes(city, "v1.0-trainval", "train", index, _NUM_SWEEPS)
        return reader, reader.frame(len(reader) - 1)
    reader = NuScenes(root, version, "train", index, _NUM_SWEEPS)
    with_sweeps = [frame for frame in reader if len(frame.sweeps) == _NUM_SWEEPS]
    return reader, with_sweeps[0] if with_sweeps else add_sweeps(reader.frame(0), folder)


def add_sweeps(frame: Frame, folder: str, seed: int = 0) -> Frame:
    """The frame with five earlier sweeps made of itself: what the sensor would have seen of the same points.

    The vehicle drives forwards with 8 m/s on a slight bend, 20 sweeps a second; points are moved by 2 cm at random,
    those on the vehicle itself stay where they are. The files go to `folder`, in nuScenes' format.
    """
    rng = np.random.default_rng(seed)
    columns = np.fromfile(frame.lidar_path, np.float32).reshape(-1, 5)
    own = (np.abs(columns[:, :2]) < 1.5).all(1)
    sweeps = []
    for k in range(1, _NUM_SWEEPS + 1):
        angle, to_key = 0.002 * k, np.eye(4)
        to_key[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        to_key[1, 3] = -0.4 * k
        seen_now = columns[:, :3] + rng.normal(0, 0.02, (len(columns), 3))
        seen_then = (seen_now - to_key[:3, 3]) @ to_key[:3, :3]
        sweep = columns.copy()
        sweep[~own, :3] = seen_then[~own]
        path = os.path.join(folder, f"sweep{k}.bin")
        sweep.tofile(path)
        sweeps.append(Sweep(path, to_key))
    return replace(frame, sweeps=tuple(sweeps))
