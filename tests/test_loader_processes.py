"""Loader processes: how batches come from them, what memory they keep, and that they end with training."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from benchmarks.loader_memory import memory_of_worker
from core import builder, doctor
from core.datasets.sample import SegmentationDataset
from core.loader import handover
from core.loader.collate import MOST_TENSORS
from core.loader.handover import Handover, Parcel, allow_descriptors, free_shared_memory
from core.loader.worker_signals import follow_training
from core.running.config import load_config
from core.running.cpus import available_cpus
from core.running.runtime import run_main
from tests import made_up
from tests.entry import ASSOP2P, ROOT, environment, logged
from tests.helpers import HERE

FRAMES = 12


class Samples:
    """Made-up samples with images of 200 kB."""

    def __len__(self):
        return FRAMES

    def __getitem__(self, index):
        return made_up.sample(index, images=torch.full((2, 3, 160, 210), index, dtype=torch.uint8).numpy())


def load(workers=2):
    """All batches of `Samples` by loader processes."""
    loader = DataLoader(
        Samples(),
        2,
        num_workers=workers,
        collate_fn=Handover(workers, allow_descriptors(workers)),
        multiprocessing_context=builder.worker_context(),
        worker_init_fn=follow_training,
        timeout=60,
    )
    return list(loader)


def program():
    """What the tests run in a process of its own: loads all batches, and says how many were in shared memory."""

    def main():
        batches = load()
        wanted = [Handover(2, False)([Samples()[i], Samples()[i + 1]]).batch for i in range(0, FRAMES, 2)]
        for batch, other in zip(batches, wanted, strict=True):
            assert batch.tokens == other.tokens
            assert all(torch.equal(a, b) for a, b in zip(batch.tensors(), other.tensors(), strict=True))
        shared = sum(batch.images.is_shared() for batch in batches)
        print(f"loaded {len(batches)}, {shared} in shared memory, {free_shared_memory()} bytes free", flush=True)

    run_main(main)


PROGRAM = [sys.executable, "-c", "from tests.test_loader_processes import program; program()"]


def test_little_shared_memory_and_few_descriptors():
    """As in a container that is given next to nothing."""
    mount = "mount -t tmpfs -o size=300k tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("mounting needs root")
    command = ["unshare", "-m", "sh", "-c", f'{mount} && ulimit -n 64 && exec "$@"', "sh", *PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "loaded 6, 0 in shared memory" in done.stdout, done.stderr


def test_shared_memory_that_fills_meanwhile(monkeypatch):
    """The check of free memory may be overtaken by others: what then fails goes through the pipe."""

    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    assert isinstance(Handover(1, True)([Samples()[0]]), Parcel)
    monkeypatch.setattr(handover.os, "statvfs", lambda path: (_ for _ in ()).throw(FileNotFoundError()))
    assert free_shared_memory() == 0


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), RuntimeError("Too many open files. Increase")])
def test_too_few_descriptors_for_anything(error):
    def main():
        raise error

    with logged() as lines, pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == 2 and "open files are too few; raise it (ulimit -n 1024)" in lines[0]


def test_a_parcel_is_the_batch():
    batch = made_up.batch()
    found = ForkingPickler.loads(ForkingPickler.dumps(Parcel(batch)))
    assert type(found) is type(batch) and found.tokens == batch.tokens and len(batch.tensors()) == MOST_TENSORS
    for one, other in zip(found.tensors(), batch.tensors(), strict=True):
        assert torch.equal(one, other) and one.dtype == other.dtype and not one.is_shared()
        one.zero_()  # can be written
    assert os.path.isdir(handover.SHARED_MEMORY) == (free_shared_memory() > 0)


@pytest.mark.parametrize(
    ("free", "advice"), [(64e6, "64 MB free: little: batches may go through pipes"), (24e9, "good.")]
)
def test_the_doctor_knows_of_it(monkeypatch, free, advice):
    monkeypatch.setattr(handover, "free_shared_memory", lambda: free)
    lines = doctor.process_lines()
    assert advice in lines[0] and "Open files (ulimit -n): " in lines[1] and f": {available_cpus()}." in lines[2]


class Leaking:
    """Keeps 100 kB of each sample."""

    def __init__(self, dataset):
        self.dataset, self.kept = dataset, []

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        self.kept.append(np.ones(100_000, np.uint8))
        return self.dataset[key]


def dataset_of(project) -> SegmentationDataset:
    config = load_config(ASSOP2P, overrides=project.words(dataset__use_augment="true"))
    return builder.make_dataset(config, builder.make_reader(config, "train"), "train")


def test_memory_stays_flat(prepared):
    dataset = dataset_of(prepared)
    after_40, *_, last = memory_of_worker(dataset, len(dataset), 160, 40)
    assert last - after_40 < 2e6
    after_40, *_, last = memory_of_worker(Leaking(dataset), len(dataset), 160, 40)
    assert last - after_40 > 8e6


SCRIPT = """
import resource
import numpy as np
from core.running.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20 // 8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
took_effect = {keep} and keep_freed_memory()
faults()
print(took_effect, sum(faults() for _ in range(3)))
"""


def faults(keep: bool) -> int:
    """Page faults of filling 64 MiB three times, after a first time."""
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.path.dirname(HERE))
    took_effect, count = result.stdout.split()
    if keep and took_effect == "False":
        pytest.skip("the C library is not glibc")
    return int(count)


def test_kept_memory_is_not_asked_for_again():
    kept, mapped_anew = faults(keep=True), faults(keep=False)  # how many depends on the size of pages
    assert mapped_anew > 50 and kept < mapped_anew / 4


ENDLESS = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from core.loader.worker_signals import follow_training
from tests.test_loader_processes import Pids
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
    program.write_text(ENDLESS)
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
from tests.test_loader_processes import Pids
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
