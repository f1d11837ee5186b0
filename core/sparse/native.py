"""Sparse convolution in PyTorch alone.

On a GPU: gather each output row's input rows side by side, zeros where there is none, and multiply them by the whole
kernel at once. That multiplies more zeros than not, which a GPU does sooner than it starts a product for each slice,
and takes few operations, none of which makes the host wait. Where every output row has a single pair, multiply first
and gather then.

On a CPU: gather the input rows of all pairs, multiply them by their kernel slices (`products.py`), sum the products of
each output row. The sum is a gather, too (`RowMap`), so nothing is scattered. The centre of an odd kernel maps every
row to itself and skips the gather.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from core.sparse.kernel_map import KernelMap
from core.sparse.rows import on_gpu

ALIGNMENT = 8  # channels: matrix units want rows of 16 bytes or a multiple


class _PairConvolution(torch.autograd.Function):
    """The CPU's."""

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
    return feats.dtype != torch.float32


class _TableConvolution(torch.autograd.Function):
    """The GPU's. Channels and kernel are padded already (`_padded`)."""

    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        if kernel_map.single is not None:
            return _multiply_then_gather(feats, kernel, kernel_map.single)
        return _gather(feats, kernel_map.gather_index, kernel_map.volume) @ kernel.flatten(0, 1)

    @staticmethod
    def backward(ctx, grad: Tensor):
        """One gather serves both gradients: of `grad` by the transposed map, or, where each input row has one pair
        alone, of the features."""
        feats, kernel = ctx.saved_tensors
        kernel_map, grad = ctx.kernel_map, grad.contiguous()
        volume, c_in, c_out = kernel.shape
        grad_feats = grad_kernel = None
        if kernel_map.back_single is not None:
            if ctx.needs_input_grad[0]:
                grad_feats = _multiply_then_gather(grad, kernel.transpose(1, 2), kernel_map.back_single)
            if ctx.needs_input_grad[1]:
                gathered = _gather(feats, kernel_map.gather_index, volume)
                grad_kernel = (gathered.t() @ grad).view(volume, c_in, c_out)
            return grad_feats, grad_kernel, None
        mirrored = kernel_map.is_symmetric  # its own table serves: slice k of the transposed map is slice K - 1 - k
        index = kernel_map.gather_index if mirrored else kernel_map.back_gather_index
        gathered = _gather(grad, index, volume)
        if ctx.needs_input_grad[0]:
            turned = kernel.flip(0) if mirrored else kernel
            grad_feats = gathered @ turned.transpose(1, 2).reshape(volume * c_out, c_in)
        if ctx.needs_input_grad[1]:
            grad_kernel = (feats.t() @ gathered).view(c_in, volume, c_out).transpose(0, 1)
            grad_kernel = grad_kernel.flip(0) if mirrored else grad_kernel
        return grad_feats, grad_kernel, None


def _gather(rows: Tensor, index: Tensor, volume: int) -> Tensor:
    """[N, C] by int32 [M * K], N for a row of zeros -> [M, K * C]."""
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, index).view(-1, volume * rows.shape[1])


def _multiply_then_gather(rows: Tensor, kernel: Tensor, single: Tensor) -> Tensor:
    """[N, A] by every slice of [K, A, B], of which output row i takes int32 [M] single = row * K + slice -> [M, B]."""
    volume, a, b = kernel.shape
    products = rows @ kernel.transpose(0, 1).reshape(a, volume * b)
    return products.view(-1, b).index_select(0, single)


def _padded(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolution with channels padded by zeros to a multiple of 8, inside of it alone."""
    c_out = kernel.shape[2]
    more_in, more_out = (-channels % ALIGNMENT for channels in kernel.shape[1:])
    if more_in:
        feats = F.pad(feats, (0, more_in))
    if more_in or more_out:
        kernel = F.pad(kernel, (0, more_out, 0, more_in))
    out = _TableConvolution.apply(feats, kernel, kernel_map)
    return out[:, :c_out].contiguous() if more_out else out


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
    if on_gpu(feats):
        return _padded(feats, kernel, kernel_map)
    return _PairConvolution.apply(feats, kernel, kernel_map)
