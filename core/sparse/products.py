"""How the pairs of a kernel map are multiplied by their kernel slices: slice by slice, or in blocks of equal size.

Both lay the pairs out in rows, ordered by slice. Slice by slice is one product of as many rows as the slice has pairs:
best where a product of a new size costs no more than any other, as in MKL's float32. In blocks, all slices are padded
to whole blocks and one batched product does them all: best where each new size costs a compilation of some 0.4 ms
(oneDNN's bfloat16): slices have other sizes in every batch, while the sizes of blocks come again.
"""

from functools import cached_property

import torch
from torch import Tensor

from core.sparse.rows import RowMap

SMALLEST_BLOCK, BLOCKS_WANTED, BLOCKS_STEP = 32, 128, 16


class Slices:
    """Pairs without gaps; one product for each slice.

    Args:
        in_rows, out_rows: int64 [n], ordered by slice.
        sizes: number of pairs of each of the K slices.
        num_out: rows of the output.
    """

    def __init__(self, in_rows: Tensor, out_rows: Tensor, sizes: list[int], num_out: int):
        self.in_rows, self.out_rows, self.sizes, self.num_out = in_rows, out_rows, sizes, num_out

    @cached_property
    def sums(self) -> RowMap:
        """Sums the pairs' products into output rows: [num_out, n]."""
        pairs = torch.arange(self.out_rows.numel(), device=self.out_rows.device)
        return RowMap.from_pairs(pairs, self.out_rows, None, self.out_rows.numel(), self.num_out)

    def gather(self, feats: Tensor) -> Tensor:
        """Input rows [num_in, C] of the pairs -> [n, C]."""
        return feats.index_select(0, self.in_rows)

    def multiply(self, gathered: Tensor, kernel: Tensor) -> Tensor:
        """[n, Cin] by kernel [K, Cin, Cout] -> [n, Cout]."""
        products = gathered.new_empty(gathered.shape[0], kernel.shape[2])
        for k, pairs in self._spans():
            torch.mm(gathered[pairs], kernel[k], out=products[pairs])
        return products

    def correlate(self, gathered: Tensor, outputs: Tensor) -> Tensor:
        """Sums of outer products of the pairs' input rows [n, A] and output rows [num_out, B] -> [K, A, B]."""
        out = gathered.new_zeros(len(self.sizes), gathered.shape[1], outputs.shape[1])
        gathered_outputs = outputs.index_select(0, self.out_rows)
        for k, pairs in self._spans():
            torch.mm(gathered[pairs].t(), gathered_outputs[pairs], out=out[k])
        return out

    def _spans(self) -> list[tuple[int, slice]]:
        """(kernel slice, its rows) of every slice that has pairs."""
        spans, begin = [], 0
        for k, size in enumerate(self.sizes):
            if size:
                spans.append((k, slice(begin, begin + size)))
            begin += size
        return spans


class Blocks:
    """Pairs in blocks of equal size, none of which holds pairs of two slices; one batched product for all.

    A block is a power of two of rows, so large that there are 128 to 256 of them and some (one slice's last block is
    padded, and so is their number, to a multiple of 16). Padding reads row 0 and counts nowhere.

    Args: as `Slices`.
    """

    def __init__(self, in_rows: Tensor, out_rows: Tensor, sizes: list[int], num_out: int):
        self.num_slices, self.num_out = len(sizes), num_out
        device, count = in_rows.device, in_rows.numel()
        self.block = max(SMALLEST_BLOCK, 1 << max(0, (count // BLOCKS_WANTED).bit_length() - 1))
        blocks = [-(-size // self.block) for size in sizes]
        self.num_blocks = -(-sum(blocks) // BLOCKS_STEP) * BLOCKS_STEP
        per_slice, pairs_per_slice = (torch.tensor(values, device=device) for values in (blocks, sizes))
        padded_before = (per_slice.cumsum(0) - per_slice) * self.block - (pairs_per_slice.cumsum(0) - pairs_per_slice)
        moved = torch.repeat_interleave(padded_before, pairs_per_slice, output_size=count)
        self.places = torch.arange(count, device=device) + moved  # int64 [n], row of each pair
        self.in_rows, self._out_rows = (self._spread(rows) for rows in (in_rows, out_rows))
        slices = torch.repeat_interleave(per_slice, output_size=sum(blocks))
        self.slices = torch.cat([slices, slices.new_zeros(self.num_blocks - sum(blocks))])  # int64 [blocks]
        offsets = torch.cat([per_slice.new_zeros(1), per_slice.cumsum(0)])
        self._slice_sums = RowMap(torch.arange(sum(blocks), device=device), offsets, None, self.num_blocks)
        padding = torch.ones(self.num_blocks * self.block, dtype=torch.bool, device=device)
        padding[self.places] = False
        self._padding, self._pair_out_rows = padding[:, None], out_rows

    def _spread(self, rows: Tensor) -> Tensor:
        """[n] -> [blocks * block], 0 in the padding."""
        return rows.new_zeros(self.num_blocks * self.block).index_copy_(0, self.places, rows)

    @cached_property
    def sums(self) -> RowMap:
        """Sums the products of the pairs, not of the padding, into output rows: [num_out, blocks * block]."""
        return RowMap.from_pairs(self.places, self._pair_out_rows, None, self._padding.numel(), self.num_out)

    def gather(self, feats: Tensor) -> Tensor:
        """Input rows [num_in, C] of the pairs and of the padding -> [blocks * block, C]."""
        return feats.index_select(0, self.in_rows)

    def multiply(self, gathered: Tensor, kernel: Tensor) -> Tensor:
        """[blocks * block, Cin] by kernel [K, Cin, Cout] -> [blocks * block, Cout]."""
        return torch.bmm(self._split(gathered), kernel.index_select(0, self.slices)).flatten(0, 1)

    def correlate(self, gathered: Tensor, outputs: Tensor) -> Tensor:
        """Sums of outer products of the pairs' input rows, padded, and output rows [num_out, B] -> [K, A, B]."""
        gathered_outputs = outputs.index_select(0, self._out_rows).masked_fill_(self._padding, 0)
        partial = torch.bmm(self._split(gathered).transpose(1, 2), self._split(gathered_outputs))
        return self._slice_sums.apply(partial.flatten(1)).unflatten(1, partial.shape[1:])

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(0, (self.num_blocks, self.block))
