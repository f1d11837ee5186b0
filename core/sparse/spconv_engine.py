"""Sparse convolution by the Triton kernels of spconv-triton, on this project's kernel maps. GPUs only.

Its implicit matrix product reads, for each output row and kernel slice, the input row from a table, and skips a slice
where no row of a tile has one; so it wants the rows in an order that brings rows with the same slices together. Its
weights are [Cout, K, Cin]; ours are turned at this boundary, so that checkpoints stay the same.
"""

import numpy as np
import torch
from torch import Tensor

from core.sparse.kernel_map import KernelMap

_ALL_SLICES = [np.array([0xFFFFFFFF], np.uint32)]  # one group of rows, which may use any slice


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        from spconv_triton.pytorch import ops

        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        _follow_tf32_setting()
        mask, order = kernel_map.rows_by_slices
        arguments = ([mask], [order], kernel_map.num_out, _ALL_SLICES, True, kernel_map.is_symmetric)
        return ops.implicit_gemm(feats, to_spconv(kernel), kernel_map.table, *arguments)[0]

    @staticmethod
    def backward(ctx, grad: Tensor):
        from spconv_triton.pytorch import ops

        feats, kernel = ctx.saved_tensors
        forwards, backwards = ctx.kernel_map, ctx.kernel_map.transposed
        _follow_tf32_setting()
        (mask, order), (mask_back, order_back) = forwards.rows_by_slices, backwards.rows_by_slices
        grad_feats, grad_kernel = ops.implicit_gemm_backward(
            feats,
            to_spconv(kernel),
            grad,
            forwards.table,
            backwards.table,
            [mask],
            [mask_back],
            [order],
            [order_back],
            mask_output_fwd=torch.Tensor(),
            masks=_ALL_SLICES,
            mask_width=-1,
            is_subm=forwards.is_symmetric,
        )
        return grad_feats, from_spconv(grad_kernel), None


def convolve(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """As `native.convolve`."""
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    return _Convolution.apply(feats, kernel, kernel_map)


def to_spconv(kernel: Tensor) -> Tensor:
    """[K, Cin, Cout] -> [Cout, K, Cin]."""
    return kernel.permute(2, 0, 1).contiguous()


def from_spconv(kernel: Tensor) -> Tensor:
    """[Cout, K, Cin] -> [K, Cin, Cout]."""
    return kernel.permute(1, 2, 0).contiguous()


def _follow_tf32_setting() -> None:
    """spconv-triton has a switch of its own for TF32, read at each call."""
    from spconv_triton import constants

    constants.SPCONV_ALLOW_TF32 = torch.backends.cuda.matmul.allow_tf32
