"""Loader processes end with training, also where it is killed."""

import os
import signal
import subprocess
import sys
import time

PROGRAM = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from core.datasets.worker_signals import follow_training
from tests.test_worker_signals import Pids
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    loader = DataLoader(
        Pids(), num_workers=2, persistent_workers=True, worker_init_fn=follow_training, multiprocessing_context=context
    )
    print(*{int(pid) for pid in loader}, flush=True)
    sys.stdin.read()
"""


class Pids:
    """Each sample is the process that made it."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return os.getpid()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_loader_processes_do_not_outlive_killed_training(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    training = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    workers = [int(pid) for pid in training.stdout.readline().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    for worker in workers:
        os.kill(worker, signal.SIGTERM)  # a scheduler's request leaves them alive
    time.sleep(0.2)
    assert all(map(alive, workers))
    training.kill()
    training.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
