"""Weighted sums of feature rows: the one primitive behind interpolation, pooling and sparse convolution's scatter.

Forward and backward are both gathers (`torch.embedding_bag`), so no two threads ever add to one row: the result is the
same in every run, and no atomic additions are needed on a GPU.
"""

import torch
from torch import Tensor


class RowMap:
    """A sparse matrix [num_out, num_in] in compressed rows, to be applied to features [num_in, C].

    Attributes:
        indices: int64 [nnz], input row of each entry, ordered by output row.
        offsets: int64 [num_out + 1], where each output row's entries begin.
        weights: float32 [nnz], or None where all are 1.
        num_in: number of input rows.
    """

    def __init__(self, indices: Tensor, offsets: Tensor, weights: Tensor | None, num_in: int):
        self.indices, self.offsets, self.weights, self.num_in = indices, offsets, weights, num_in
        self._transposed: RowMap | None = None

    @property
    def num_out(self) -> int:
        return self.offsets.numel() - 1

    @staticmethod
    def from_table(table: Tensor, weights: Tensor, num_in: int) -> "RowMap":
        """Each output row from the same number of entries.

        Args:
            table: int64 [num_out, J] input rows, all valid (give absent ones any row and weight 0).
            weights: float32 [num_out, J].
        """
        offsets = torch.arange(table.shape[0] + 1, device=table.device) * table.shape[1]
        return RowMap(table.reshape(-1), offsets, weights.reshape(-1), num_in)

    @staticmethod
    def from_pairs(in_rows: Tensor, out_rows: Tensor, weights: Tensor | None, num_in: int, num_out: int) -> "RowMap":
        """Entries (out_rows[i], in_rows[i]) with weights[i], in any order; order within a row is kept."""
        order = torch.argsort(out_rows, stable=True)
        counts = torch.bincount(out_rows, minlength=num_out)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return RowMap(in_rows[order], offsets, None if weights is None else weights[order], num_in)

    def transposed(self) -> "RowMap":
        """The transposed matrix, computed at the first call and kept."""
        if self._transposed is None:
            counts = self.offsets[1:] - self.offsets[:-1]
            out_rows = torch.repeat_interleave(
                torch.arange(self.num_out, device=self.indices.device), counts, output_size=self.indices.numel()
            )
            self._transposed = RowMap.from_pairs(out_rows, self.indices, self.weights, self.num_out, self.num_in)
            self._transposed._transposed = self
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
