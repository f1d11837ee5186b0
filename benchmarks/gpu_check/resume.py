"""Part 5: training that is killed and resumed, with float16's scaler; and NCCL with one process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.gpu_check.answers import Answers, Task, run_part
from benchmarks.gpu_check.city import CONFIGS, ROOT

EPOCHS, KILL_AFTER = 4, 5  # steps: in the middle of an epoch of two
_SMALL = {
    "dataset.version": "v1.0-mini",
    "dataset.voxel_size": 0.5,
    "model.cr": 0.125,
    "model.proj_channel": 8,
    "model.imagenet_pretrain": "null",
    "batch_size": 1,
    "workers_per_gpu": 0,
    "num_epochs": EPOCHS,
    "optimizer.lr": 0.02,
    "train.log_every": 1,
    "train.deterministic": "true",
    "train.validate_every": EPOCHS,
    "train.checkpoint_every_steps": 1,
}
_CLOSE = 1e-5  # of weights that a second run gives alike to the last bit, relative to the largest


class Trainings:
    """Short trainings of the same few frames.

    Args:
        task: the part's.
        data: folder of the frames and their labels.
    """

    def __init__(self, task: Task, data: str) -> None:
        self.task, self.data = task, data
        self.end = time.monotonic() + task.seconds

    def start(self, name: str) -> subprocess.Popen:
        """The training command with the run directory `name`."""
        keys = {
            **_SMALL,
            "dataset.root": f"{self.data}/nuscenes",
            "dataset.index_path": f"{self.data}/index",
            "dataset.sparse_label_path": f"{self.data}/sparse_label_path",
            "dataset.superpixel": f"{self.data}/superpixel",
            "amp_enabled": "true",
            "amp_dtype": "float16" if self.task.device == "cuda" else "bfloat16",
        }
        words = [word for key, value in keys.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "train_lc_sparse_assop2p_nusc.py", f"{CONFIGS}/pretrain/assop2p.yaml"]
        environment = dict(os.environ, CUBLAS_WORKSPACE_CONFIG=":4096:8")
        if self.task.device == "cpu":
            environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        with open(os.path.join(self.task.folder, f"part-5-{name}.log"), "a") as log:
            return subprocess.Popen(
                [*command, "--run-dir", self.run_dir(name), *words], cwd=ROOT, env=environment, stdout=log, stderr=log
            )

    def run_dir(self, name: str) -> str:
        """Where a training's results lie."""
        return os.path.join(self.task.folder, "runs", f"resume_{name}")

    def finish(self, name: str, process: subprocess.Popen) -> None:
        """Waits for its end.

        Raises RuntimeError where it failed.
        """
        if process.wait(max(1, self.end - time.monotonic())):
            raise RuntimeError(f"training '{name}' failed: see part-5-{name}.log")

    def kill(self, name: str) -> int:
        """Starts a training and kills it when some steps are done; how many."""
        process = self.start(name)
        while process.poll() is None and len(self.losses(name)) < KILL_AFTER and time.monotonic() < self.end:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise RuntimeError(f"training '{name}' ended before it was killed: see part-5-{name}.log")
        return len(self.losses(name))

    def losses(self, name: str) -> dict[int, float]:
        """The total loss by step."""
        path = os.path.join(self.run_dir(name), "scalars.jsonl")
        if not os.path.exists(path):
            return {}
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.endswith("\n")]
        return {row["step"]: row["loss/total"] for row in rows if "loss/total" in row}

    def state(self, name: str) -> dict[str, Any]:
        """The last checkpoint."""
        path = os.path.join(self.run_dir(name), "checkpoints", f"step-{2 * EPOCHS}.pt")
        return torch.load(path, map_location="cpu", weights_only=False)


def largest_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Of two networks' states, relative to each tensor's largest value."""
    differences = [
        float((value.double() - b["model"][name].double()).abs().max() / value.double().abs().max().clamp(min=1e-12))
        for name, value in a["model"].items()
    ]
    return max(difference if difference == difference else float("inf") for difference in differences)


def killed_training(task: Task, answers: Answers) -> None:
    """A training that is killed and resumed, against two that are not: what these differ by is the GPU's own (a CPU
    gives the same twice: one)."""
    trainings = Trainings(task, make_data(os.path.join(task.folder, "runs", "frames")))
    whole = {name: trainings.start(name) for name in (["whole"] if task.toy else ["whole", "again"])}
    done = trainings.kill("killed")
    trainings.finish("killed", trainings.start("killed"))
    for name, process in whole.items():
        trainings.finish(name, process)
    states = {name: trainings.state(name) for name in (*whole, "killed")}
    own = largest_difference(states["whole"], states[list(whole)[-1]])
    resumed = largest_difference(states["whole"], states["killed"])
    losses = [trainings.losses(name) for name in ("whole", "killed")]
    scalers = [states[name]["scaler"] for name in ("whole", "killed")]
    wrong = []
    if resumed > max(10 * own, _CLOSE):
        wrong.append(f"weights differ by {resumed:.1e}, those of two whole trainings by {own:.1e}")
    if losses[0].keys() != losses[1].keys() or len(losses[0]) != 2 * EPOCHS:
        wrong.append(f"steps {sorted(losses[1])} instead of {sorted(losses[0])}")
    if scalers[0] != scalers[1] or (task.device == "cuda" and not scalers[0]):
        wrong.append(f"the scaler is {scalers[1]} instead of {scalers[0]}")
    values = {"killed after step": done, "of": 2 * EPOCHS, "difference": f"{resumed:.1e}", "of two whole": f"{own:.1e}"}
    values |= {"scale": scalers[1].get("scale", "none"), "bit for bit": resumed == 0}
    answers.add("killed and resumed", values, "; ".join(wrong))


def make_data(folder: str) -> str:
    """Two training frames and two for validation, with labels; made of noise, in a moment."""
    from core import builder
    from tests.fake_labels import fake_config, write_all_superpixels, write_weak_labels
    from tests.fake_nuscenes import write_fake_nuscenes

    root = Path(folder)
    write_fake_nuscenes(root / "nuscenes")
    config = fake_config(os.path.join(ROOT, CONFIGS, "pretrain/assop2p.yaml"), root, "--dataset.voxel_size=0.5")
    reader = builder.make_reader(config, "train")
    write_weak_labels(config, reader)
    write_all_superpixels(config, reader)
    return folder


def one_process_group(task: Task, answers: Answers) -> None:
    """Sums, and DDP with synchronised batch norm, in a group of one: losses are those of training without a group."""
    from core import builder
    from core.running import comm
    from core.running.config import load_config

    device = torch.device(task.device, 0) if task.device == "cuda" else torch.device("cpu")
    backend = "nccl" if device.type == "cuda" else "gloo"
    config = load_config(os.path.join(ROOT, CONFIGS, "pretrain/assop2p.yaml"))
    alone = losses_of_steps(lambda network: network, device)
    meeting = os.path.join(task.folder, "runs", "meeting")
    os.makedirs(os.path.dirname(meeting), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.remove(meeting)
    torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", world_size=1, rank=0)
    try:
        with patch("torchpack.distributed.size", return_value=2):  # so that all calls are made
            counts = np.array([[1, 2**62], [3, 4]])
            same = np.array_equal(comm.sum_over_processes(counts), counts)
            together = losses_of_steps(lambda network: builder.distribute(config, network, device), device)
    finally:
        torch.distributed.destroy_process_group()
    difference = max(abs(a - b) / abs(a) for a, b in zip(alone, together, strict=True))
    wrong = "" if same and difference < 1e-3 else f"sums are exact: {same}; losses {together} instead of {alone}"
    answers.add(
        f"{backend} with one process", {"steps": len(alone), "difference of losses": f"{difference:.1e}"}, wrong
    )


def losses_of_steps(distribute: Any, device: torch.device) -> list[float]:
    """The total loss of three steps of the same small network on the same batch."""
    from torchpack.callbacks import LambdaCallback

    from benchmarks.gpu_check.step import Batches
    from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
    from core.losses import LossWeights
    from core.models import TwoBranchNetwork
    from core.training.trainer import SegmentationTrainer

    torch.manual_seed(0)
    options: dict[str, Any] = {"cr": 0.125, "proj_channel": 8, "image_blocks": (1, 1, 1, 1), "dropout": 0.0}
    model = distribute(TwoBranchNetwork(NUM_CLASSES, **options).to(device))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    trainer = SegmentationTrainer(model, LossWeights(), optimizer, lambda iteration: 1.0, device)
    losses: list[float] = []
    keep = LambdaCallback(after_step=lambda _, values: losses.append(float(values["total"])))
    batches: Any = Batches([made_up_batch(300, (24, 40), 2)], 3)
    trainer.train(batches, num_epochs=1, callbacks=[keep])
    return losses


def main(task: Task, answers: Answers) -> None:
    """Both."""
    with answers.trying("one process group"):
        one_process_group(task, answers)
    with answers.trying("killed and resumed"):
        killed_training(task, answers)


if __name__ == "__main__":
    run_part(5, main)
