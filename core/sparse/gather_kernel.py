"""The Triton kernel of `gather.py`. Only imported where there is a GPU, or Triton's interpreter."""

import torch
import triton
import triton.language as tl
from torch import Tensor

ELEMENTS = 4096  # of a program's tile


@triton.jit
def _gather(
    rows,
    index,
    out,
    num_rows,
    num_out,
    stride: tl.constexpr,
    channels: tl.constexpr,
    width: tl.constexpr,
    block_m: tl.constexpr,
    block_c: tl.constexpr,
):  # type: ignore[no-untyped-def]
    place = tl.program_id(0).to(tl.int64) * block_m + tl.arange(0, block_m)
    column = tl.arange(0, block_c)
    source = tl.load(index + place, mask=place < num_out, other=num_rows)
    there = (source < num_rows)[:, None] & (column < channels)[None, :]
    values = tl.load(rows + source.to(tl.int64)[:, None] * stride + column[None, :], mask=there, other=0.0)
    kept = (place < num_out)[:, None] & (column < width)[None, :]
    tl.store(out + place[:, None] * width + column[None, :], values, mask=kept)


def launch(rows: Tensor, index: Tensor, width: int) -> Tensor:
    """As `gather_rows`; [M, width] with M > 0."""
    out = torch.empty(len(index), width, dtype=rows.dtype, device=rows.device)
    block_c = 1 << (width - 1).bit_length()
    block_m = max(ELEMENTS // block_c, 1)
    grid = (-(-len(index) // block_m),)
    channels = min(width, rows.shape[1])
    _gather[grid](rows, index, out, len(rows), len(index), rows.stride(0), channels, width, block_m, block_c)
    return out
