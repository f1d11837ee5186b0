"""Modules and functions on sparse tensors."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.sparse import engines
from core.sparse.rows import mix_rows
from core.sparse.tensor import SparseTensor


class Conv3d(nn.Module):
    """Sparse 3-D convolution without bias.

    Kernel size 3 with stride 1, 2 with stride 2 (its transposed form goes back to the finer set that the tensor's
    batch already has), or 1. The output's voxels at stride 1 are the input's (submanifold).

    `kernel` is [K, Cin, Cout], or [Cin, Cout] for kernel size 1; the order of K is `coordinates.kernel_offsets`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, transposed: bool = False
    ):
        super().__init__()
        if (kernel_size, stride) not in {(1, 1), (3, 1), (2, 2)} or (transposed and stride == 1):
            raise ValueError(f"unsupported: kernel_size={kernel_size}, stride={stride}, transposed={transposed}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride, self.transposed = kernel_size, stride, transposed
        volume = kernel_size**3
        shape = (volume, in_channels, out_channels) if volume > 1 else (in_channels, out_channels)
        self.kernel = nn.Parameter(torch.empty(shape))
        bound = 1.0 / math.sqrt((out_channels if transposed else in_channels) * volume)
        nn.init.uniform_(self.kernel, -bound, bound)

    def forward(self, x: SparseTensor) -> SparseTensor:
        if self.kernel_size == 1:
            return x.with_feats(x.feats @ self.kernel)
        stride = x.stride // 2 if self.transposed else x.stride
        kernel_map = x.coordinates.kernel_map(self.kernel_size, self.stride, stride)
        if self.transposed:
            kernel_map = kernel_map.transposed
        feats = engines.convolve(x.feats, self.kernel, kernel_map)
        return SparseTensor(feats, x.coordinates, stride if self.transposed else stride * self.stride)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"transposed={self.transposed}"
        )


class SparseSequential(nn.Sequential):
    """Runs sparse modules on the tensor, and ordinary ones (batch norm, ReLU) on its features."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        for module in self:
            x = module(x) if _is_sparse(module) else x.with_feats(module(x.feats))
        return x


def _is_sparse(module: nn.Module) -> bool:
    return isinstance(module, Conv3d | SparseSequential) or getattr(module, "on_sparse_tensor", False)


def concatenate(tensors: Sequence[SparseTensor]) -> SparseTensor:
    """Joins the channels of tensors on one voxel set."""
    return tensors[0].with_feats(torch.cat([tensor.feats for tensor in tensors], 1))


def voxelize(point_feats: Tensor, like: SparseTensor) -> SparseTensor:
    """P→V: the mean of the features [P, C] of the batch's points in each voxel of `like`."""
    if _is_identity(like):
        return like.with_feats(point_feats)
    return like.with_feats(mix_rows(point_feats, like.coordinates.points_to_voxels(like.stride)))


def devoxelize(x: SparseTensor) -> Tensor:
    """V→P: trilinear interpolation of voxel features at the batch's points -> [P, C]."""
    if _is_identity(x):
        return x.feats
    return mix_rows(x.feats, x.coordinates.voxels_to_points(x.stride))


def _is_identity(x: SparseTensor) -> bool:
    """Whether the points are the tensor's voxels, row by row."""
    return x.stride == 1 and x.coordinates.points_are_voxels
