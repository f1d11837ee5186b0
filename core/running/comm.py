"""What processes tell each other. Works on gloo and NCCL; with one process everything is a no-op.

torchpack's own `allreduce` and `allgather` need a GPU.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn
from torchpack import distributed as dist

from core.running.stalls import mark

PATIENCE_WITH_OTHERS = timedelta(hours=24)
"""How long a process waits for another one: preparations drift apart, and one process alone writes a submission. A
process that dies is noticed sooner, by the loss of its connection and by the launcher; in training one that stalls is
noticed after `train.patience` minutes."""

F = TypeVar("F", bound=Callable[..., Any])


def together(function: F) -> F:
    """A function that all processes call, equally often: how far each is, the others know (see stalls.py)."""

    @wraps(function)
    def marked(*args: Any, **options: Any) -> Any:
        mark()
        result = function(*args, **options)
        mark()
        return result

    return marked  # type: ignore[return-value]


@together
def sum_over_processes(array: NDArray[Any]) -> NDArray[Any]:
    """The exact sum of an int64 or float64 array of all processes."""
    if dist.size() == 1:
        return array
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"  # NCCL takes GPU tensors alone
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    torch.distributed.all_reduce(tensor)
    return tensor.cpu().numpy()


@together
def barrier() -> None:
    """Waits for all processes."""
    if dist.size() > 1:
        torch.distributed.barrier()


def in_first_process(work: Callable[[], object]) -> None:
    """Does `work` in the first process, while the others wait. Where it fails, its process ends, and they with it."""
    if dist.is_master():
        work()
    barrier()


@together
def broadcast_buffers(network: nn.Module) -> None:
    """Gives all processes the first one's buffers: without synchronised batch norm their running statistics differ."""
    if dist.size() > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)


@lru_cache(maxsize=1)
def _cpu_group() -> Any:
    """A group for small things on the CPU, whatever training itself goes through. The first call is collective."""
    if torch.distributed.get_backend() == "gloo":
        return torch.distributed.group.WORLD
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE_WITH_OTHERS)


def any_process(condition: bool) -> bool:
    """Whether the condition holds in at least one process."""
    return -min_over_processes(-int(condition)) > 0


@together
def min_over_processes(value: int) -> int:
    """The smallest of the processes' numbers."""
    if dist.size() == 1:
        return value
    tensor = torch.tensor(value)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MIN, group=_cpu_group())
    return int(tensor)


@together
def all_objects(value: Any) -> list[Any]:
    """The values of all processes, in their order, on each of them."""
    if dist.size() == 1:
        return [value]
    values = [None] * dist.size()
    torch.distributed.all_gather_object(values, value, group=_cpu_group())
    return values
