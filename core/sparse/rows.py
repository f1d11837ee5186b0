"""Weighted sums of feature rows: the one primitive behind interpolation, pooling and the CPU's sparse convolution.

Forward and backward are both gathers (`torch.embedding_bag`), so no two threads ever add to one row: the result is the
same in every run, and no atomic additions are needed on a GPU. Nothing here makes the host wait for a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_like_a_gpu = False


def on_gpu(tensor: Tensor) -> bool:
    """Whether to work as a GPU wants it: few operations, none that makes the host wait."""
    return tensor.is_cuda or _like_a_gpu


@contextmanager
def as_on_gpu() -> Iterator[None]:
    """Works on a CPU as on a GPU, to test it and to count its operations there."""
    global _like_a_gpu
    before, _like_a_gpu = _like_a_gpu, True
    try:
        yield
    finally:
        _like_a_gpu = before


class RowMap:
    """A sparse matrix [num_out, num_in] in compressed rows, to be applied to features [num_in, C].

    Attributes:
        indices: int32 [nnz], input row of each entry, ordered by output row.
        offsets: int32 [num_out + 1], where each output row's entries begin.
        weights: float32 [nnz], or None where all are 1.
        num_in: number of input rows.
        transposed: the transposed matrix where it is known beforehand, else None: built when a gradient needs it.
    """

    def __init__(
        self, indices: Tensor, offsets: Tensor, weights: Tensor | None, num_in: int, transposed: "RowMap | None" = None
    ):
        self.indices, self.offsets, self.weights, self.num_in = indices, offsets, weights, num_in
        self._transposed = transposed

    @property
    def num_out(self) -> int:
        return self.offsets.numel() - 1

    @staticmethod
    def from_table(table: Tensor, weights: Tensor, num_in: int) -> "RowMap":
        """Each output row from the same number of entries.

        Args:
            table: [num_out, J] input rows, all valid. Give absent ones weight 0 and rows that spread over the input: a
                GPU sums the gradient of a row entry by entry.
            weights: float32 [num_out, J].
        """
        table, num_out, entries = table.int(), *table.shape
        if not on_gpu(table):  # there the host would have to wait for their number
            kept = weights != 0
            offsets = torch.cat([torch.zeros(1, dtype=torch.int32), kept.sum(1).cumsum(0).int()])
            return RowMap(table[kept], offsets, weights[kept], num_in)
        offsets = torch.arange(0, (num_out + 1) * entries, entries, dtype=torch.int32, device=table.device)
        return RowMap(table.flatten(), offsets, weights.flatten(), num_in)

    @staticmethod
    def from_pairs(
        in_rows: Tensor | None, out_rows: Tensor, weights: Tensor | None, num_in: int, num_out: int
    ) -> "RowMap":
        """Entries (out_rows[i], in_rows[i]) with weights[i], in any order; order within a row is kept. Without
        `in_rows` it is i."""
        sorted_rows, order = torch.sort(out_rows, stable=True)
        bounds = torch.arange(num_out + 1, dtype=sorted_rows.dtype, device=sorted_rows.device)
        offsets = torch.searchsorted(sorted_rows, bounds, out_int32=True)
        indices = order if in_rows is None else in_rows[order]
        return RowMap(indices.int(), offsets, None if weights is None else weights[order], num_in)

    def transposed(self) -> "RowMap":
        """The transposed matrix, computed at the first call and kept. It does not know this one: a cycle of tensors
        would live on until Python's garbage collector comes by."""
        if self._transposed is None:
            rows = torch.arange(self.num_out, dtype=torch.int32, device=self.indices.device)
            counts = self.offsets[1:] - self.offsets[:-1]
            out_rows = torch.repeat_interleave(rows, counts, output_size=self.indices.numel())
            self._transposed = RowMap.from_pairs(out_rows, self.indices, self.weights, self.num_out, self.num_in)
        return self._transposed

    def apply(self, features: Tensor) -> Tensor:
        """[num_in, C] -> [num_out, C], without gradient."""
        if self.indices.numel() == 0:
            return features.new_zeros(self.num_out, features.shape[1])
        weights = None if self.weights is None else self.weights.to(features.dtype)
        return torch.embedding_bag(
            features, self.indices, self.offsets, mode=0, per_sample_weights=weights, include_last_offset=True
        )[0]


class _MixRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, row_map: RowMap) -> Tensor:
        ctx.row_map = row_map
        return row_map.apply(features.contiguous())

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.row_map.transposed().apply(grad.contiguous()), None


def mix_rows(features: Tensor, row_map: RowMap) -> Tensor:
    """Applies `row_map` to features [num_in, C], with gradient -> [num_out, C]."""
    return _MixRows.apply(features, row_map)
