"""Sparse convolution by the CUDA kernels of torchsparse v1.4.0, on this project's kernel maps."""

import torch
from torch import Tensor

from core.sparse.kernel_map import KernelMap


def convolve(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """As `native.convolve`. Under autocast to float16 it runs in float16, else in float32: torchsparse 1.4.0 has no
    bfloat16 kernels."""
    from torchsparse.nn.functional.conv import ConvolutionFunction

    device = feats.device.type
    half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    dtype = torch.float16 if half else torch.float32
    pairs, sizes = kernel_map.full_table
    shape = (kernel_map.num_in, kernel_map.num_out)
    with torch.autocast(device, enabled=False):  # else torchsparse would cast to float16 by itself
        sizes_tensor = torch.tensor(sizes, dtype=torch.int32)
        return ConvolutionFunction.apply(feats.to(dtype), kernel.to(dtype), pairs, sizes_tensor, shape, False)
