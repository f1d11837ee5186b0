"""How a loader process hands its batches to training: in shared memory, or where there is too little through its pipe.

PyTorch puts tensors into shared memory while a batch is on its way, in a thread whose errors nobody sees: without room
the batch is lost, and training waits for it for ever. Here it is put there before it is sent.
"""

import io
import os
import pickle
import resource
from collections.abc import Callable, Sequence
from typing import Any

import torch

from core.datasets.sample import Sample
from core.loader.collate import MOST_TENSORS, Batch, collate

SHARED_MEMORY = "/dev/shm"  # noqa: S108
IN_FLIGHT = 3
"""Batches of one loader process that exist at once: two made ahead, one being made or used."""
SMALL_SAMPLE = 1_000_000
_DESCRIPTORS = 256  # for all else: files, pipes, sockets


class Handover:
    """Makes a batch of samples, and lets it travel in shared memory where that has room for all loader processes.

    Args:
        loaders: loader processes on this machine.
        shared: False: all batches go through the pipe.
        make_batch: what makes the batch.
    """

    def __init__(self, loaders: int, shared: bool, make_batch: Callable[[Sequence[Sample]], Batch] = collate):
        self.loaders, self.shared, self.make_batch = loaders, shared, make_batch

    def __call__(self, samples: Sequence[Sample]) -> "Batch | Parcel":
        batch = self.make_batch(samples)
        tensors = batch.tensors()
        size = sum(tensor.nbytes for tensor in tensors)
        # what stays free is for the others' batches, and for the locks that every loader makes
        if not self.shared or free_shared_memory() < (self.loaders + 1) * size:
            return Parcel(batch)
        try:
            for tensor in tensors:
                tensor.share_memory_()
        except (RuntimeError, OSError):  # no room or no descriptor after all
            return Parcel(batch)
        return batch


class Parcel:
    """A batch that is pickled with all its numbers, and is the batch itself again on the other side."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        file = io.BytesIO()
        _ByValue(file, protocol=5).dump(self.batch)
        return pickle.loads, (file.getvalue(),)


class _ByValue(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


def free_shared_memory() -> int:
    """Free bytes of the system's shared memory; 0 where there is none."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def wanted_shared_memory(loaders: int, batch_size: int, images: int) -> int:
    """About how many bytes the batches of all loader processes take: the `images` of a sample (pixels in all), and a
    third more for the points; at least as much as with SMALL_SAMPLE pixels."""
    return 4 * loaders * IN_FLIGHT * batch_size * max(images, SMALL_SAMPLE)


def allow_descriptors(workers: int) -> bool:
    """Whether this process may hold the descriptors of all tensors that its loader processes have under way, after
    raising its limit as far as it may."""
    wanted = _DESCRIPTORS + workers * IN_FLIGHT * MOST_TENSORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return True
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    return min(max(soft, wanted), hard) >= wanted
