"""Batches come from loader processes with little shared memory and few file descriptors, or an error does."""

import os
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch.utils.data import DataLoader

from core import builder, doctor
from core.loader import handover
from core.loader.collate import MOST_TENSORS
from core.loader.handover import Handover, Parcel, allow_descriptors, free_shared_memory
from core.loader.worker_signals import follow_training
from core.running.cpus import available_cpus
from core.running.runtime import run_main
from tests import made_up
from tests.entry import ROOT, environment, logged

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


PROGRAM = [sys.executable, "-c", "from tests.test_handover import program; program()"]


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
