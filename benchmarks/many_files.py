"""A data set's number of files, and what it costs: the start of training, and preparation into a full folder.

    python3 -m benchmarks.many_files

Training: links to empty files stand for nuScenes' LiDAR files, images and label files of 28 130 frames (those of 6 019
of them also for validation) and for what is made of them (28 130 weak labels, as many files of superpixels). The
training script runs up to where it makes the network; counted are the seconds from the start of its process, and how
often any of its processes opens a label file.

Preparation: 20 000 frames, whose labelling itself is left out, into an empty folder and into one of 150 000 files.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from unittest.mock import patch

import numpy as np

from benchmarks.common import machine, table
from benchmarks.open_dataset import FRAMES, VERSION, write_index
from core import builder
from core.datasets.nuscenes import NuScenes
from core.label_files.files import SUPERPIXEL, WEAK_LABEL, WeakLabel, describe, label_path, write_meta
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.statistics import FrameStatistics
from core.labeling.over_data_set.jobs import WeakLabelJob
from core.labeling.over_data_set.prepare import prepare
from core.running.config import load_config
from core.running.files import write_json

CONFIG = "configs/nuscenes/pretrain/assop2p.yaml"
LINKS_OF_ONE_FILE = 50_000  # file systems limit them
PROGRAM = """
import json, os, sys, time

begun, folder, labels = float(sys.argv[1]), sys.argv[2], sys.argv[3]
opened = []


def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(labels):
        opened.append(arguments[0])


def stop(*arguments, **options):
    seconds = time.time() - begun
    with open(os.path.join(folder, f"{os.getpid()}.json"), "w") as file:
        files = [path for path in opened if not path.endswith("meta.json")]
        json.dump([seconds, time.process_time(), len(files)], file)
    comm.barrier()  # nobody is ended before it has written
    sys.exit(0)


sys.addaudithook(watch)
sys.argv = ["train_lc_sparse_assop2p_nusc.py", *sys.argv[4:]]
import train_lc_sparse_assop2p_nusc as script
from core import builder
from core.running import comm
builder.make_model = stop
script.main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=20_000, help="frames to prepare")
    parser.add_argument("--there", type=int, default=150_000, help="files in the full folder")
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2], help="of training")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        rows = [start_of_training(folder, processes) for processes in arguments.processes]
        print(table(rows) if rows else "")
    with tempfile.TemporaryDirectory() as folder:
        print(table(preparation(folder, arguments.frames, arguments.there)))


def start_of_training(folder: str, processes: int) -> dict[str, str]:
    """Seconds until training would make its network, and opened label files, of that many processes."""
    root, labels = os.path.join(folder, "root"), os.path.join(folder, "labels")
    if not os.path.isdir(root):
        write_files(folder, root, labels)
    results = tempfile.mkdtemp(dir=folder)
    words = [sys.executable, "-c", PROGRAM, str(time.time()), results, labels, CONFIG, "--run-dir", f"{results}/run"]
    launcher = ["torchpack", "dist-run", "-np", str(processes)] if processes > 1 else []
    if launcher:  # it drops quotes
        program = os.path.join(folder, "program.py")
        with open(program, "w", encoding="utf-8") as file:
            file.write(PROGRAM)
        words[1:3] = [program]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    subprocess.run([*launcher, *words, *overrides(folder)], check=True, capture_output=True, env=environment)
    found = []
    for path in glob.glob(f"{results}/*.json"):
        with open(path, encoding="utf-8") as file:
            found.append(json.load(file))
    return {
        "processes": str(len(found)),
        "label files": str(sum(len(os.listdir(f"{labels}/{name}")) for name in ("weak", "seeds"))),
        "start, wall s": f"{max(wall for wall, _, _ in found):.1f}",
        "CPU s of the busiest": f"{max(cpu for _, cpu, _ in found):.1f}",
        "label files opened": str(sum(opened for _, _, opened in found)),
    }


def overrides(folder: str) -> list[str]:
    """Words that point the configuration at the files."""
    keys = {"root": "root", "index_path": "index", "sparse_label_path": "labels/weak", "superpixel": "labels/seeds"}
    words = [word for key, name in keys.items() for word in (f"--dataset.{key}", os.path.join(folder, name))]
    return [*words, "--model.imagenet_pretrain", "null"]


def write_files(folder: str, root: str, labels: str) -> None:
    """Links for all files of nuScenes and of the labels, and the labels' meta.json."""
    index = os.path.join(folder, "index")
    write_index(root, index)
    readers = {split: NuScenes(root, VERSION, split, index, 0) for split in FRAMES}
    for reader in readers.values():
        link_all(folder, (path for frame in reader for path in (frame.lidar_path, str(frame.label_path))))
        link_all(folder, (camera.image_path for frame in reader for camera in frame.cameras))
    config, reader = load_config(CONFIG), readers["train"]
    size = builder.image_size(config, reader)
    weak, seeds = os.path.join(labels, "weak"), os.path.join(labels, "seeds")
    link_all(folder, (label_path(weak, WEAK_LABEL, token) for token in reader.tokens()))
    link_all(folder, (label_path(seeds, SUPERPIXEL, token) for token in reader.tokens()))
    write_meta(weak, WEAK_LABEL, builder.weak_label_parameters(config), config.train.seed, reader, {})
    write_meta(seeds, SUPERPIXEL, builder.superpixel_parameters(config, size), None, reader, {})


def link_all(folder: str, paths: Iterable[str]) -> None:
    """Makes links to empty files at all paths."""
    made: set[str] = set()
    for number, path in enumerate(paths):
        if number % LINKS_OF_ONE_FILE == 0:
            descriptor, source = tempfile.mkstemp(dir=folder)
            os.close(descriptor)
        folder_of_path = os.path.dirname(path)
        if folder_of_path not in made:
            os.makedirs(folder_of_path, exist_ok=True)
            made.add(folder_of_path)
        with suppress(FileExistsError):  # the made-up index names some of both splits alike
            os.link(source, path)


def preparation(folder: str, frames: int, there: int) -> list[dict[str, str]]:
    """Seconds of preparing `frames` frames into an empty folder and into one of `there` files, and again."""
    root, index = os.path.join(folder, "root"), os.path.join(folder, "index")
    write_index(root, index, {"train": frames})
    reader = NuScenes(root, VERSION, "train", index, 0)
    nothing = np.zeros(1000, np.uint8)
    label = WeakLabel(nothing, nothing, nothing.astype(np.int32), np.zeros(1, np.uint32))
    counts = [0] * reader.classes.num_classes
    made = label, FrameStatistics(1000, 1000, 0.0, 0.0, 0.0, counts, counts)
    rows = []
    for name, number in (("empty", 0), (f"{there} files", there)) * 2:  # in turn: disks have moods
        with tempfile.TemporaryDirectory(dir=folder) as directory:
            description = describe(WEAK_LABEL, WeakLabelParameters(), 1, reader)
            write_json(os.path.join(directory, "unfinished.json"), description)
            link_all(folder, (label_path(directory, WEAK_LABEL, f"other-{i:032x}") for i in range(number)))
            wall, cpu = time.perf_counter(), time.process_time()
            with patch("core.labeling.over_data_set.jobs.label_frame", lambda *arguments: made):
                prepare(WeakLabelJob(reader, directory, WeakLabelParameters(), 1))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rows.append({"folder": name, "frames": str(frames), "wall s": f"{wall:.1f}", "CPU s": f"{cpu:.1f}"})
    return rows


if __name__ == "__main__":
    main()
