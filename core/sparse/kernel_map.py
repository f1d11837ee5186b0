"""Which rows meet in a convolution, in the forms in which the engines want to read it."""

from functools import cached_property

import torch
from torch import Tensor

from core.sparse.products import Blocks, Slices
from core.sparse.rows import on_gpu


class KernelMap:
    """Which input row meets which output row under each of K kernel slices (a "rule book").

    Building and transposing one waits for no GPU; `sizes`, `pairs` and `full_table`, which the CPU's products and
    torchsparse read, do.

    Args:
        num_in, num_out: rows of the input and the output.
        volume: K.
        inputs: int32 [num_out, K], the input row of each output row and slice, num_in where there is none; None where
            `single` is given.
        back_inputs: likewise int32 [num_in, K], of the transposed map, where that is known and not symmetric.
        single: int32 [num_out], input row * K + slice, where every output row has exactly one pair (a transposed
            convolution of stride 2), else None.
        back_single: likewise int32 [num_in], of the transposed map (a convolution of stride 2), else None.
        identity: the slice that maps every row to itself (centre of an odd kernel), or -1. The pairs (i, o) of slice k
            are then the pairs (o, i) of slice K - 1 - k: every voxel looks for its neighbours in its own set.
    """

    def __init__(
        self,
        num_in: int,
        num_out: int,
        volume: int,
        inputs: Tensor | None = None,
        back_inputs: Tensor | None = None,
        single: Tensor | None = None,
        back_single: Tensor | None = None,
        identity: int = -1,
    ):
        self.num_in, self.num_out, self.volume, self.identity = num_in, num_out, volume, identity
        self.single, self.back_single = single, back_single
        self._inputs, self._back_inputs = inputs, back_inputs

    @property
    def is_symmetric(self) -> bool:
        """Whether the map is its own transpose, with the slices in reverse order."""
        return self.identity >= 0

    @cached_property
    def inputs(self) -> Tensor:
        """int32 [num_out, K], the input row of each output row and slice, num_in where there is none."""
        if self._inputs is not None:
            return self._inputs
        assert self.single is not None
        inputs = self.single.new_full((self.num_out, self.volume), self.num_in)
        places = (self.single % self.volume)[:, None].long()
        return inputs.scatter_(1, places, torch.div(self.single, self.volume, rounding_mode="floor")[:, None])

    @cached_property
    def back_inputs(self) -> Tensor:
        """int32 [num_in, K], `inputs` of the transposed map."""
        if self._back_inputs is not None:
            return self._back_inputs
        return self.inputs.flip(1) if self.is_symmetric else self.transposed.inputs

    @cached_property
    def transposed(self) -> "KernelMap":
        """The map of the transposed convolution: the same pairs, read backwards. It does not know this one: a cycle of
        tensors would live on until Python's garbage collector comes by."""
        back_inputs = self.back_inputs if self.is_symmetric else self._back_inputs
        single, back_single = self.back_single, self.single
        back = KernelMap(
            self.num_out, self.num_in, self.volume, back_inputs, self._inputs, single, back_single, self.identity
        )
        if self._inputs is not None and not on_gpu(self._inputs):
            in_rows, out_rows, sizes = self._pairs
            back._pairs = out_rows, in_rows, sizes
        return back

    @cached_property
    def table(self) -> Tensor:
        """int32 [K, num_out], the input row of each slice and output row, -1 where there is none."""
        inputs = self.inputs.t()
        return torch.where(inputs == self.num_in, -1, inputs).contiguous()

    # --- the pairs one by one ---

    @cached_property
    def _pairs(self) -> tuple[Tensor, Tensor, list[int]]:
        table = self.table
        if self.identity >= 0:
            table = table.clone()
            table[self.identity] = -1
        kernel_slice, out_rows = (table >= 0).nonzero(as_tuple=True)
        in_rows = table[kernel_slice, out_rows].long()
        return in_rows, out_rows, torch.bincount(kernel_slice, minlength=self.volume).tolist()

    @property
    def sizes(self) -> list[int]:
        """Pairs of each slice, without those of the identity."""
        return self._pairs[2]

    def pairs(self, in_blocks: bool) -> Blocks | Slices:
        """The pairs but those of the identity, laid out for multiplication, built once each way."""
        return self._blocks if in_blocks else self._slices

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks(*self._pairs, self.num_out)

    @cached_property
    def _slices(self) -> Slices:
        return Slices(*self._pairs, self.num_out)

    @cached_property
    def full_table(self) -> tuple[Tensor, list[int]]:
        """All pairs, the identity's too: (int32 [n, 2] of (input row, output row), ordered by slice, then by output
        row; pairs of each slice)."""
        kernel_slice, out_rows = (self.table >= 0).nonzero(as_tuple=True)
        pairs = torch.stack([self.table[kernel_slice, out_rows], out_rows.int()], 1)
        return pairs, torch.bincount(kernel_slice, minlength=self.volume).tolist()

    @cached_property
    def rows_by_slices(self) -> tuple[Tensor, Tensor]:
        """Output rows in an order that brings those with pairs in the same slices together; at most 31 slices.

        Returns (int32 [num_out], bit k set where the row has a pair in slice k, in that order; int32 [num_out] rows).
        """
        bits = torch.arange(self.volume, dtype=torch.int32, device=self.table.device)
        mask = ((self.table >= 0).int() << bits[:, None]).sum(0, dtype=torch.int32)
        mask, order = torch.sort(mask, stable=True)
        return mask, order.int()
