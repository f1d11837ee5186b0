"""Rows side by side for a product: gathered, padded and cut in one pass.

On a GPU by a small Triton kernel: PyTorch's own gather starts a block of threads for each row, and rows of some 40
channels are too short for that (66 of 156 ms of a training step on an H200). On a CPU, and where Triton is missing, by
PyTorch's operations.
"""

from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor
from torchpack.utils.logging import logger


@torch.library.custom_op("iupc::gather_rows", mutates_args=())
def gather_rows(rows: Tensor, index: Tensor, width: int) -> Tensor:
    """out[i] = rows[index[i]], zeros where index[i] is N, cut or padded by zeros to `width` channels. No gradient.

    Args:
        rows: [N, C], channels side by side in memory.
        index: int32 [M], 0..N.
    Returns [M, width].
    """
    if rows.is_cuda and len(index) and _has_triton():
        from core.sparse.gather_kernel import launch

        return launch(rows, index, width)
    more = max(width - rows.shape[1], 0)
    return F.pad(rows[:, :width], (0, more, 0, 1)).index_select(0, index)


@cache
def _has_triton() -> bool:
    found = find_spec("triton") is not None
    if not found:
        logger.warning("Triton is not installed: sparse convolutions gather by PyTorch, which takes longer on a GPU.")
    return found
