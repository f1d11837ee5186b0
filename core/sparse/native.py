"""Sparse convolution in PyTorch alone, on a CPU or a GPU.

Gather the input rows of all pairs, multiply slice by slice, sum the products of each output row. The sum is a gather,
too (`RowMap`), so nothing is scattered. The centre of an odd kernel maps every row to itself and skips the gather.
"""

import torch
from torch import Tensor

from core.sparse.coordinates import KernelMap


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        return _multiply(feats, kernel, kernel_map)

    @staticmethod
    def backward(ctx, grad: Tensor):
        feats, kernel = ctx.saved_tensors
        grad, backwards = grad.contiguous(), ctx.kernel_map.transposed
        grad_feats = grad_kernel = None
        if ctx.needs_input_grad[0]:
            grad_feats = _multiply(grad, kernel.transpose(1, 2), backwards)
        if ctx.needs_input_grad[1]:
            grad_kernel = _kernel_gradient(feats, grad, ctx.kernel_map)
        return grad_feats, grad_kernel, None


def convolve(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Sparse convolution: out[o] = sum over pairs (i, o) of slice k of feats[i] @ kernel[k].

    Args:
        feats: [num_in, Cin].
        kernel: [K, Cin, Cout].
    Returns [num_out, Cout].
    """
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    return _Convolution.apply(feats, kernel, kernel_map)


def _multiply(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    gathered = feats.index_select(0, kernel_map.in_rows)
    products = feats.new_empty(gathered.shape[0], kernel.shape[2])
    for k, pairs in kernel_map.slices():
        torch.mm(gathered[pairs], kernel[k], out=products[pairs])
    out = kernel_map.pairs_to_out.apply(products)
    return out.addmm_(feats, kernel[kernel_map.identity]) if kernel_map.identity >= 0 else out


def _kernel_gradient(feats: Tensor, grad: Tensor, kernel_map: KernelMap) -> Tensor:
    out = feats.new_zeros(len(kernel_map.sizes), feats.shape[1], grad.shape[1])
    gathered_feats = feats.index_select(0, kernel_map.in_rows)
    gathered_grad = grad.index_select(0, kernel_map.out_rows)
    for k, pairs in kernel_map.slices():
        torch.mm(gathered_feats[pairs].t(), gathered_grad[pairs], out=out[k])
    if kernel_map.identity >= 0:
        torch.mm(feats.t(), grad, out=out[kernel_map.identity])
    return out
