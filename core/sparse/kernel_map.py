"""Which rows meet in a convolution, in the forms in which the engines want to read it."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from core.sparse.products import Blocks, Slices


@dataclass
class KernelMap:
    """Which input row meets which output row under each kernel slice (a "rule book").

    Attributes:
        in_rows, out_rows: int64 [n], ordered by slice, then by output row; without the pairs of the identity slice.
        sizes: number of these pairs of each slice.
        num_in, num_out: rows of the input and the output.
        identity: the slice that maps every row to itself (centre of an odd kernel), or -1.
    """

    in_rows: Tensor
    out_rows: Tensor
    sizes: list[int]
    num_in: int
    num_out: int
    identity: int = -1

    def pairs(self, in_blocks: bool) -> Blocks | Slices:
        """The pairs laid out for multiplication, built once each way."""
        return self._blocks if in_blocks else self._slices

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(self.in_rows, self.out_rows, self.sizes, self.num_out)

    @cached_property
    def _slices(self) -> Slices:
        return Slices(self.in_rows, self.out_rows, self.sizes, self.num_out)

    @property
    def is_symmetric(self) -> bool:
        """Whether the pairs (i, o) of slice k are the pairs (o, i) of slice K - 1 - k: so it is where every voxel looks
        for its neighbours in its own set. Such a map is its own transpose, with the slices in reverse order."""
        return self.identity >= 0

    @cached_property
    def transposed(self) -> "KernelMap":
        """The map of the transposed convolution: the same pairs, read backwards."""
        return KernelMap(self.out_rows, self.in_rows, self.sizes, self.num_out, self.num_in, self.identity)

    @cached_property
    def full_table(self) -> tuple[Tensor, list[int]]:
        """All pairs, the identity's too: (int32 [n, 2] of (input row, output row), pairs of each slice)."""
        pairs, sizes = torch.stack([self.in_rows, self.out_rows], 1).int(), list(self.sizes)
        if self.identity >= 0:
            before = sum(sizes[: self.identity])
            centre = torch.arange(self.num_in, dtype=torch.int32, device=pairs.device)[:, None].expand(-1, 2)
            pairs = torch.cat([pairs[:before], centre, pairs[before:]])
            sizes[self.identity] = self.num_in
        return pairs.contiguous(), sizes

    @cached_property
    def table(self) -> Tensor:
        """All pairs, the identity's too: int32 [K, num_out], each output row's input row, -1 where there is none."""
        table = torch.full((len(self.sizes), self.num_out), -1, dtype=torch.int32, device=self.in_rows.device)
        sizes = torch.tensor(self.sizes, device=self.in_rows.device)
        kernel_slice = torch.repeat_interleave(sizes, output_size=self.in_rows.numel())
        table[kernel_slice, self.out_rows] = self.in_rows.int()
        if self.identity >= 0:
            table[self.identity] = torch.arange(self.num_out, dtype=torch.int32, device=table.device)
        return table

    @cached_property
    def rows_by_slices(self) -> tuple[Tensor, Tensor]:
        """Output rows in an order that brings those with pairs in the same slices together; at most 31 slices.

        Returns (int32 [num_out], bit k set where the row has a pair in slice k, in that order; int32 [num_out] rows).
        """
        bits = torch.arange(len(self.sizes), dtype=torch.int32, device=self.in_rows.device)
        mask = ((self.table >= 0).int() << bits[:, None]).sum(0, dtype=torch.int32)
        mask, order = torch.sort(mask, stable=True)
        return mask, order.int()
