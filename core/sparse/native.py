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

from core.sparse.gather import gather_rows
from core.sparse.kernel_map import KernelMap
from core.sparse.rows import on_gpu

ROW_BYTES = 16


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
    """The GPU's. Channels are padded by zeros, inside of it alone."""

    @staticmethod
    def forward(ctx, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
        feats = feats.contiguous()
        ctx.save_for_backward(feats, kernel)
        ctx.kernel_map = kernel_map
        if kernel_map.single is not None:
            return _multiply_then_gather(feats, kernel, kernel_map.single)
        out = _side_by_side(feats, kernel_map.inputs) @ _padded(kernel, 1, 2).flatten(0, 1)
        return _cut(out, kernel.shape[2])

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
                products = _side_by_side(feats, kernel_map.inputs).t() @ _padded(grad, 1)
                grad_kernel = products.view(volume, -1, products.shape[1])[:, :c_in, :c_out].contiguous()
            return grad_feats, grad_kernel, None
        gathered = _side_by_side(grad, kernel_map.back_inputs)
        if ctx.needs_input_grad[0]:
            grad_feats = _cut(gathered @ _padded(kernel.transpose(1, 2), 1, 2).flatten(0, 1), c_in)
        if ctx.needs_input_grad[1]:
            products = _padded(feats, 1).t() @ gathered
            grad_kernel = products.view(len(products), volume, -1)[:c_in, :, :c_out].transpose(0, 1).contiguous()
        return grad_feats, grad_kernel, None


def _aligned(channels: int, dtype: torch.dtype) -> int:
    """Channels of rows of a multiple of 16 bytes, as matrix units want them."""
    step = ROW_BYTES // dtype.itemsize
    return -(-channels // step) * step


def _padded(tensor: Tensor, *axes: int) -> Tensor:
    """The tensor with zeros after its channels on these axes, where they are no multiple of 16 bytes."""
    pads = [_aligned(n, tensor.dtype) - n if axis in axes else 0 for axis, n in enumerate(tensor.shape)]
    if not any(pads):
        return tensor
    return F.pad(tensor, [side for pad in reversed(pads) for side in (0, pad)])


def _cut(rows: Tensor, channels: int) -> Tensor:
    """The rows without the padding of their channels."""
    return rows if rows.shape[1] == channels else rows[:, :channels].contiguous()


def _side_by_side(rows: Tensor, inputs: Tensor) -> Tensor:
    """[N, C], padded, by int32 [M, K] rows, N for none -> [M, K * C]."""
    width = _aligned(rows.shape[1], rows.dtype)
    return gather_rows(rows, inputs.flatten(), width).view(len(inputs), inputs.shape[1] * width)


def _multiply_then_gather(rows: Tensor, kernel: Tensor, single: Tensor) -> Tensor:
    """[N, A] by every slice of [K, A, B], of which output row i takes int32 [M] single = row * K + slice -> [M, B]."""
    channels = kernel.shape[2]
    kernel = _padded(kernel, 1, 2)
    volume, a, b = kernel.shape
    products = _padded(rows, 1) @ kernel.transpose(0, 1).reshape(a, volume * b)
    return gather_rows(products.view(-1, b), single, channels)


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
        return _TableConvolution.apply(feats, kernel, kernel_map)
    return _PairConvolution.apply(feats, kernel, kernel_map)
