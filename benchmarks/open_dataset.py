"""Opening nuScenes in a further process, at its real size: time and memory.

    python3 -m benchmarks.open_dataset

Writes a made-up index with the frames of the real data set (28 130 for training, 6 019 for validation), and opens both
splits in fresh processes, as a rank of a training does. Memory is the process's resident set (RSS), told apart into
what Python, NumPy and the reader's modules take and what the opened index adds; with PyTorch imported, as in training,
its libraries come on top.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine, table
from core.datasets.nuscenes.index import FORMAT, MAX_SWEEPS
from core.datasets.nuscenes.tables import CAMERAS, LABEL_TABLE, TABLES, tables_digest
from core.running.files import write_atomic

VERSION = "v1.0-trainval"
FRAMES = {"train": 28130, "val": 6019}
TO_REACH = "to reach: 2 s and 300 MB to open both splits"
PROGRAM = """
import json, sys, time

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

root, index, num_sweeps, with_torch = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "torch"
begin = time.process_time()
if with_torch:
    import core.datasets.sample
from core.datasets.nuscenes import NuScenes
imported, before = time.process_time() - begin, resident()
begin, wall = time.process_time(), time.perf_counter()
readers = [NuScenes(root, "v1.0-trainval", split, index, num_sweeps) for split in ("train", "val")]
frames = [reader.frame(len(reader) - 1) for reader in readers]
print(json.dumps([imported, before, time.process_time() - begin, time.perf_counter() - wall, resident()]))
"""


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        root, index = os.path.join(folder, "root"), os.path.join(folder, "index")
        write_index(root, index)
        megabytes = os.path.getsize(os.path.join(index, f"{VERSION}.npz")) / 1e6
        print(f"Index of {sum(FRAMES.values())} frames: {megabytes:.0f} MB; {TO_REACH}")
        rows = []
        for name, num_sweeps, modules in (("training", 0, "torch"), ("reader alone", 0, ""), ("with 5 sweeps", 5, "")):
            rows.append({"process": name, **measure(root, index, num_sweeps, modules)})
        print(table(rows))


def measure(root: str, index: str, num_sweeps: int, modules: str) -> dict[str, str]:
    """Opens both splits in a fresh process."""
    command = [sys.executable, "-c", PROGRAM, root, index, str(num_sweeps), modules]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    imported, before, seconds, wall, after = json.loads(output.splitlines()[-1])
    return {
        "imports, CPU s": f"{imported:.2f}",
        "opening, CPU s": f"{seconds:.2f}",
        "opening, wall s": f"{wall:.2f}",
        "RSS before, MB": f"{before / 1e6:.0f}",
        "opening adds, MB": f"{(after - before) / 1e6:.0f}",
    }


def write_index(root: str, index: str, frames_of: Mapping[str, int] = FRAMES) -> None:
    """Empty tables under `root`, and the index file that fits them, with numbered tokens and paths, and random poses.

    Args:
        frames_of: frames of each split.
    """
    os.makedirs(os.path.join(root, VERSION))
    for name in (*TABLES, LABEL_TABLE):
        with open(os.path.join(root, VERSION, f"{name}.json"), "w", encoding="utf-8") as file:
            file.write("[]")
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {}
    for split, frames in frames_of.items():
        cameras = (frames, len(CAMERAS))
        sweeps = (frames, MAX_SWEEPS)
        contents = {
            "token": names("{:032x}", frames),
            "sample_token": names("{:032x}", frames),
            "scene": names("scene-{:04d}", frames),
            "lidar_path": names("samples/LIDAR_TOP/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__{:016d}.pcd.bin", frames),
            "label_path": names("lidarseg/v1.0-trainval/{:032x}_lidarseg.bin", frames),
            "camera_token": names("{:032x}", *cameras),
            "camera_path": names(
                "samples/CAM_FRONT_RIGHT/n015-2018-07-24-11-22-45+0800__CAM_FRONT_RIGHT__{:016d}.jpg", *cameras
            ),
            "camera_size": np.tile(np.array([1600, 900], np.int32), (*cameras, 1)),
            "lidar_to_image": rng.random((*cameras, 4, 4)),
            "sweep_path": names("sweeps/LIDAR_TOP/n015-2018-07-24-11-22-45+0800__LIDAR_TOP__{:016d}.pcd.bin", *sweeps),
            "sweep_to_key": rng.random((*sweeps, 4, 4)),
        }
        arrays |= {f"{split}/{name}": array for name, array in contents.items()}
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "digest": tables_digest(root, VERSION),
        "frames": dict(frames_of),
        "num_scenes": 850 if frames_of == FRAMES else 1,
        "num_sweeps": MAX_SWEEPS,
    }
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    with write_atomic(os.path.join(index, f"{VERSION}.npz")) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def names(pattern: str, *shape: int) -> NDArray[np.bytes_]:
    """Numbered names of the given shape."""
    return np.array([pattern.format(i) for i in range(int(np.prod(shape)))], np.bytes_).reshape(shape)


if __name__ == "__main__":
    main()
