"""The made-up city at nuScenes' full sizes with its labels, made by the project's own commands."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONFIGS = os.path.join("configs", "nuscenes")
_VERSION = "v1.0-trainval"
READY, _FAILED = "ready", "failed"
FULL = {"train-scenes": "4", "val-scenes": "1", "frames": "16", "azimuth-steps": "1084", "image-size": "900 1600"}
TOY = {"train-scenes": "1", "val-scenes": "1", "frames": "2", "azimuth-steps": "90", "image-size": "90 160"}
TOY_KEYS = {
    "dataset.voxel_size": "0.3",
    "dataset.seeds.num_superpixels": "64",
    "dataset.seeds.num_levels": "2",
    "model.cr": "0.16",
    "model.proj_channel": "16",
    "batch_size": "1",
    "workers_per_gpu": "0",
}


@dataclass(frozen=True)
class City:
    """A city below `folder`, and what the commands are told of it.

    Attributes:
        workers: processes that make it.
    """

    folder: str
    toy: bool
    workers: int

    def place(self, name: str) -> str:
        """A path below the folder."""
        return os.path.join(self.folder, name)

    def words(self, index: str = "index") -> list[str]:
        """Configuration keys as words of a command line; `index` names the folder of the index."""
        keys = {
            "dataset.root": self.place("city"),
            "dataset.index_path": self.place(index),
            "dataset.sparse_label_path": self.place("weak_label"),
            "dataset.superpixel": self.place("seeds"),
            "model.imagenet_pretrain": "null",
            **(TOY_KEYS if self.toy else {}),
        }
        return [word for key, value in keys.items() for word in (f"--{key}", value)]

    @property
    def ready(self) -> bool:
        """Whether it is complete with its labels."""
        return os.path.exists(self.place(READY))

    @property
    def failed(self) -> bool:
        """Whether its making failed."""
        return os.path.exists(self.place(_FAILED))

    def make(self) -> None:
        """Makes it, or what is missing of it; the two kinds of labels at the same time.

        Raises RuntimeError where a command fails; its output is in the folder's make.log.
        """
        os.makedirs(self.folder, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.place(_FAILED))
        try:
            self._make()
        except RuntimeError:
            self._mark(_FAILED)
            raise
        self._mark(READY)

    def _mark(self, name: str) -> None:
        with open(self.place(name), "w"):
            pass

    def _make(self) -> None:
        sizes = [word for name, text in (TOY if self.toy else FULL).items() for word in (f"--{name}", *text.split())]
        script = ["prepare_synthetic_nusc.py", "--root", self.place("city"), "--test-scenes", "0", *sizes]
        _finish([self._start([*script, "--num-workers", str(self.workers)])])
        workers = ["--workers_per_gpu", str(0 if self.toy else max(1, self.workers // 2))]
        _finish(
            [
                self._start(["prepare_sparse_label.py", f"{CONFIGS}/pretrain/preseg.yaml", *self.words(), *workers]),
                self._start(["prepare_nusc_superpixel.py", f"{CONFIGS}/default.yaml", *self.words(), *workers]),
            ]
        )

    def _start(self, words: list[str]) -> subprocess.Popen:
        with open(self.place("make.log"), "a") as log:
            environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
            return subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log)

    def repeat_frames(self, times: int, name: str) -> None:
        """Writes an index, in the folder `name`, of the same city with each training frame so many times: one epoch of
        many steps, since the start of an epoch would weigh too much in short ones."""
        path = f"{_VERSION}.npz"
        with np.load(os.path.join(self.place("index"), path)) as file:
            arrays = {key: file[key] for key in file.files}
        for key, array in arrays.items():
            if key.startswith("train/"):
                arrays[key] = np.concatenate([array] * times)
        os.makedirs(self.place(name), exist_ok=True)
        np.savez(os.path.join(self.place(name), path), **arrays)  # type: ignore[arg-type]

    def frames(self) -> int:
        """Number of training frames."""
        with np.load(os.path.join(self.place("index"), f"{_VERSION}.npz")) as file:
            return len(file["train/token"])


def _finish(commands: list[subprocess.Popen]) -> None:
    statuses = [command.wait() for command in commands]
    if any(statuses):
        raise RuntimeError(f"{[command.args for command in commands]} ended with status {statuses}")


def main() -> None:
    """python3 -m benchmarks.gpu_check.city FOLDER WORKERS [toy]"""
    folder, workers, *toy = sys.argv[1:]
    City(folder, bool(toy), int(workers)).make()


if __name__ == "__main__":
    main()
