"""Sparse convolution in PyTorch alone, on a CPU or a GPU.

Gather the input rows of all pairs, multiply them by their kernel slices (`products.py`), sum the products of each
output row. The sum is a gather, too (`RowMap`), so nothing is scattered. The centre of an odd kernel maps every row to
itself and skips the gather.
"""

import torch
from torch import Tensor

from core.sparse.kernel_map import KernelMap


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        pairs = kernel_map.pairs(_in_blocks(feats))
        out = pairs.sums.apply(pairs.multiply(pairs.gather(feats), kernel))
        return out.addmm_(feats, kernel[kernel_map.identity]) if kernel_map.identity >= 0 else out

    @staticmethod
    def backward(ctx, grad: Tensor):
        """The same with the transposed map; the rows of `grad` that it gathers serve both gradients."""
        feats, kernel = ctx.saved_tensors
        kernel_map, grad = ctx.kernel_map, grad.contiguous()
        identity, mirrored = kernel_map.identity, kernel_map.is_symmetric
        backwards = kernel_map if mirrored else kernel_map.transposed
        pairs = backwards.pairs(_in_blocks(feats))
        gathered = pairs.gather(grad)
        grad_feats = grad_kernel = None
        if ctx.needs_input_grad[0]:
            turned = kernel.flip(0) if mirrored else kernel
            grad_feats = pairs.sums.apply(pairs.multiply(gathered, turned.transpose(1, 2)))
            if identity >= 0:
                grad_feats.addmm_(grad, kernel[identity].t())
        if ctx.needs_input_grad[1]:
            grad_kernel = pairs.correlate(gathered, feats).transpose(1, 2)
            grad_kernel = grad_kernel.flip(0) if mirrored else grad_kernel.contiguous()
            if identity >= 0:
                torch.mm(feats.t(), grad, out=grad_kernel[identity])
        return grad_feats, grad_kernel, None


def _in_blocks(feats: Tensor) -> bool:
    """Whether products in blocks are the faster ones (see `products.py`)."""
    return feats.is_cuda or feats.dtype != torch.float32


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
