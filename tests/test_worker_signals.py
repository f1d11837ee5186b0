"""Loader processes end with training, also where it is killed, and training does not wait for them."""

import os
import signal
import subprocess
import sys
import time

from tests.entry import ROOT, environment

PROGRAM = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from core.loader.worker_signals import follow_training
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
    training = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
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


ENDING = """
import sys
from core import builder
from core.loader.worker_signals import follow_training
from core.running.runtime import run_main
from tests.test_worker_signals import Pids
from torch.utils.data import DataLoader

def main():
    context = builder.worker_context()
    batches = iter(DataLoader(Pids(), num_workers=2, worker_init_fn=follow_training, multiprocessing_context=context))
    next(batches)
    main.kept = batches  # as by a cycle, or by the frames of a traceback
    print("ending", flush=True)
    if sys.argv[1] == "error":
        raise ZeroDivisionError

run_main(main)
"""


def test_a_single_process_does_not_wait_for_its_loader_processes():
    """They live on for a minute after SIGTERM; schedulers kill after half of that. After an error and a success."""
    command, env = [sys.executable, "-c", ENDING], environment()
    started = {
        status: subprocess.Popen([*command, how], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        for how, status in (("error", 1), ("success", 0))
    }
    for status, process in started.items():
        assert process.stdout.readline() == "ending\n"
        begin = time.monotonic()
        process.communicate(timeout=120)
        assert process.returncode == status and time.monotonic() - begin < 30
