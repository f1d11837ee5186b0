"""What processes tell each other. Works on gloo and NCCL; with one process everything is a no-op.

torchpack's own `allreduce` and `allgather` need a GPU.
"""

from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import nn
from torchpack import distributed as dist


def sum_over_processes(array: NDArray[Any]) -> NDArray[Any]:
    """The exact sum of an int64 or float64 array of all processes."""
    if dist.size() == 1:
        return array
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"  # NCCL takes GPU tensors alone
    tensor = torch.from_numpy(np.ascontiguousarray(array)).to(device)
    torch.distributed.all_reduce(tensor)
    return tensor.cpu().numpy()


def barrier() -> None:
    """Waits for all processes."""
    if dist.size() > 1:
        torch.distributed.barrier()


def broadcast_buffers(network: nn.Module) -> None:
    """Gives all processes the first one's buffers: without synchronised batch norm their running statistics differ."""
    if dist.size() > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, src=0)
