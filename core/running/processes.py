"""The processes of a command find each other: group, device and threads of each."""

import os
import socket
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed
from torch.distributed.rendezvous import rendezvous
from torchpack.distributed import context

from core.errors import UserError
from core.running.comm import PATIENCE_WITH_OTHERS, all_objects
from core.running.cpus import share_of_cpus
from core.running.launch import Launch
from core.running.stalls import StallWatch

MEETING = timedelta(minutes=10)
"""How long a process waits at the start for the others to come."""


_group = SimpleNamespace(watch=None)  # what runs beside this process's work as long as it belongs to the group


def introduce(launch: Launch) -> None:
    """Tells torchpack this process's place among the others; by itself it asks MPI, which most launchers lack."""
    context._world_rank, context._world_size = launch.rank, launch.size
    context._local_rank, context._local_size = launch.local_rank, launch.local_size


def start_processes(launch: Launch, needs_device: bool, give_up: Callable[[str], None]) -> torch.device:
    """Makes the group of the processes that `launch` says were started; returns this one's device.

    The processes share out the CPUs among them, unless OMP_NUM_THREADS says how many threads each takes.

    Args:
        needs_device: the network runs on a GPU where there is one.
        give_up: called in a thread when the others are waited for too long (see core/running/stalls.py).
    """
    use_cuda = needs_device and torch.cuda.is_available()
    if launch.size > 1 and not torch.distributed.is_initialized():
        if use_cuda:
            torch.cuda.set_device(_gpu_index(launch))
        _join(launch, "nccl" if use_cuda else "gloo")
        neighbours = _neighbours(launch, use_cuda)
        _check_gpus(neighbours)
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(share_of_cpus(os.sched_getaffinity(0), [other["cpus"] for other in neighbours]))
        _group.watch = StallWatch(_second_connection(launch), launch.rank, launch.size, give_up)
        _group.watch.start()
    return torch.device("cuda", torch.cuda.current_device()) if use_cuda else torch.device("cpu")


def leave_group() -> None:
    """Takes leave of the other processes, when the work is done."""
    if _group.watch is not None:
        _group.watch.stop()
        _group.watch = None
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _join(launch: Launch, backend: str) -> None:
    try:
        store, rank, size = next(rendezvous(launch.url, launch.rank, launch.size, timeout=MEETING))
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"{launch.address}: the {launch.size} processes did not meet there within {MEETING.seconds // 60} minutes "
            f"({str(error).splitlines()[0]}); see whether all of them were started, and set MASTER_ADDR and "
            "MASTER_PORT to an address that all can reach"
        ) from error
    store.set_timeout(PATIENCE_WITH_OTHERS)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE_WITH_OTHERS)


def _second_connection(launch: Launch) -> Any:
    """A connection to the store through which the processes met: the group's own is busy while it waits."""
    host, port = launch.address.rsplit(":", 1)
    store = torch.distributed.TCPStore(host, int(port), is_master=False, wait_for_workers=False)
    return torch.distributed.PrefixStore("stalls", store)


def _gpu_index(launch: Launch) -> int:
    count = torch.cuda.device_count()
    if launch.local_size > count > 1:
        raise _too_few_gpus(launch.local_size, count)
    return launch.local_rank % count  # of one alone: schedulers may show each process its own only


def _neighbours(launch: Launch, use_cuda: bool) -> list[dict[str, Any]]:
    """What the processes of this machine say of themselves."""
    own = {
        "host": socket.gethostname(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "gpu": str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", launch.rank))
        if use_cuda
        else None,
    }
    return [other for other in all_objects(own) if other["host"] == own["host"]]


def _check_gpus(neighbours: list[dict[str, Any]]) -> None:
    gpus = [other["gpu"] for other in neighbours if other["gpu"] is not None]
    if len(set(gpus)) < len(gpus):
        raise _too_few_gpus(len(gpus), len(set(gpus)))


def _too_few_gpus(processes: int, gpus: int) -> UserError:
    return UserError(
        f"{processes} processes on this machine but {gpus} GPUs: start fewer processes, or show more GPUs with "
        "CUDA_VISIBLE_DEVICES"
    )
