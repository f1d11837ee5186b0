"""Running the entry scripts: in this process, where that is enough, or as one types them."""

import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torchpack.utils.logging import logger

from core.running.runtime import run_main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIGS = os.path.join(ROOT, "configs", "nuscenes")
PRESEG, ASSOP2P = f"{CONFIGS}/pretrain/preseg.yaml", f"{CONFIGS}/pretrain/assop2p.yaml"
PRETRAIN, MSTEP = "train_lc_sparse_assop2p_nusc", "train_lc_sparse_assop2p_mstep_nusc"
ESTEP, ESTEP_2 = "train_lc_estep_nusc", "train_lc_estep_nusc_2"
BEST = "checkpoints/max-iou-vox-val.pt"

SHRINK = {
    "dataset.voxel_size": 0.3,
    "dataset.seeds.num_superpixels": 64,
    "dataset.seeds.num_levels": 2,
    "model.cr": 0.16,
    "model.proj_channel": 16,
    "num_epochs": 1,
    "batch_size": 1,
    "workers_per_gpu": 0,
    "optimizer.lr": 0.02,
    "scheduler.warmup_iterations": 4,
    "train.log_every": 1,
}
"""Overrides that make everything small enough for a test."""


def overrides(keys):
    """{key: value} as words of a command line."""
    return [word for key, value in keys.items() for word in (f"--{key}", str(value))]


@dataclass
class Project:
    """A data root with its label directories, and where the index lies.

    Attributes:
        keys: configuration keys that point at all of them.
    """

    root: str
    index: str
    weak: str
    seeds: str
    more: dict = field(default_factory=dict)

    @property
    def keys(self):
        return {
            **SHRINK,
            "dataset.root": self.root,
            "dataset.index_path": self.index,
            "dataset.sparse_label_path": self.weak,
            "dataset.superpixel": self.seeds,
            "model.imagenet_pretrain": "null",
            **self.more,
        }

    def words(self, **changes):
        """The overrides; in `changes` two underscores stand for a dot."""
        return overrides({**self.keys, **{key.replace("__", "."): value for key, value in changes.items()}})


@contextmanager
def logged():
    """Collects "LEVEL message" lines; closes log files that were opened meanwhile."""
    lines: list[str] = []
    first = logger.add(lambda message: lines.append(str(message).rstrip("\n")), format="{level} {message}")
    try:
        yield lines
    finally:
        last = logger.add(lines.append)
        for handler in range(first, last + 1):
            logger.remove(handler)


def run_script(script, *words):
    """Runs an entry script's main function in this process; returns what it logged."""
    main = importlib.import_module(script).main
    with logged() as lines, patch.object(sys, "argv", [f"{script}.py", *map(str, words)]):
        main()
    return lines


def prepare(project):
    """Makes the weak labels and superpixels of a project; what was logged."""
    lines = run_script("prepare_sparse_label", PRESEG, *project.words())
    return lines + run_script("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml", *project.words())


def all_steps(configs, run, words, rounds=2):
    """The numbered commands in this process: training, then so many rounds of E-step and M-step; what they logged."""
    lines = run_script(PRETRAIN, f"{configs}/pretrain/assop2p.yaml", "--run-dir", run, *words)
    scripts, later = (ESTEP, ESTEP_2), ("", "_it2")
    for k in range(rounds):
        best = run / ("checkpoints", "checkpoints_mstep_0")[k] / "max-iou-vox-val.pt"
        estep = [f"{configs}/estep/it{k + 1}.yaml", "--run-dir", run, "--weight-path", best]
        lines += run_script(scripts[k], *estep, *words)
        lines += run_script(MSTEP, f"{configs}/mstep/assop2p{later[k]}.yaml", "--run-dir", run, *words)
    return lines


def refusal(script, *words, begun=False):
    """The one line with which an entry script refuses bad input, with exit status 2; before it trains, or `begun`."""
    main = importlib.import_module(script).main
    with (
        logged() as lines,
        patch.object(sys, "argv", [f"{script}.py", *map(str, words)]),
        pytest.raises(SystemExit) as stop,
    ):
        run_main(main)
    errors = [line.removeprefix("ERROR ") for line in lines if line.startswith("ERROR")]
    assert len(errors) == 1, lines
    assert stop.value.code == 2, errors[0]
    assert "\n" not in errors[0] and "Traceback" not in errors[0], errors[0]
    assert begun or not any("Epoch 1/" in line for line in lines), "refused after training had begun"
    return errors[0]


def environment(**changes):
    """Environment of commands: this Python's scripts first on the PATH, one thread, no GPU."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **changes}


def shell(command, cwd=ROOT, status=0, **changes):
    """Runs a command line and returns its output; fails unless it exits with `status`."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == status, f"{command}\nexit status {done.returncode}\n{output[-4000:]}"
    return output


def contents(directory, skip=()):
    """{name: bytes} of the files in a directory."""
    found = {}
    for name in sorted(os.listdir(directory)):
        if name not in skip:
            with open(os.path.join(directory, name), "rb") as file:
                found[name] = file.read()
    return found


def first_difference(a, b, path="the content"):
    """Where two nested values differ in a single bit; None where nowhere."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return None if a.dtype == b.dtype and a.tobytes() == b.tobytes() else path
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return None if a.dtype == b.dtype and torch.equal(a, b) else path
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        pairs = [(key, a[key], b[key]) for key in a]
    elif isinstance(a, list | tuple) and type(a) is type(b) and len(a) == len(b):
        pairs = list(zip(range(len(a)), a, b, strict=True))
    else:
        return None if type(a) is type(b) and a == b else path
    return next((d for key, x, y in pairs if (d := first_difference(x, y, f"{path}.{key}"))), None)
