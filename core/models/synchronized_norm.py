"""Batch norm over the rows of all processes: one collective in each pass, and no step that waits for the GPU.

`nn.SyncBatchNorm` leaves out processes without rows by boolean masks, at each of which the host waits for the device.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core.models.batch_norm import UncountedBatchNorm

NO_ROWS = 1e-20
"""Number of rows of a process that has none. It weighs nothing beside one row, and divides to finite numbers."""


def synchronize_batch_norm(module: nn.Module, group: Any = None) -> nn.Module:
    """Replaces each batch norm of a network by one over all processes, with the same parameters and buffers.

    Args:
        module: changed in place, but for a batch norm itself.
        group: process group; all processes by default.
    """
    if isinstance(module, _BatchNorm):
        return SynchronizedBatchNorm(module, group)
    for name, child in module.named_children():
        setattr(module, name, synchronize_batch_norm(child, group))
    return module


class SynchronizedBatchNorm(UncountedBatchNorm):
    """In training batch norm (`batch_norm.py`) of the rows of all processes joined; in evaluation `nn.BatchNorm`.

    A single row of all processes together is normalised by the running statistics, which it leaves as they are.
    Gradients of weight and bias are of this process's rows, for DDP to combine.

    Args:
        norm: batch norm with weights, running statistics and a momentum, which are taken over.
        group: process group; all processes by default.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def __init__(self, norm: _BatchNorm, group: Any = None):
        if norm.momentum is None or not (norm.affine and norm.track_running_stats):
            raise ValueError(f"{norm}: only a batch norm with weights, running statistics and momentum is synchronised")
        super().__init__(norm.num_features, norm.eps, norm.momentum, device="meta")
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.group = group
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C] or [B, C, H, W] of any floating type -> the same. A process may have no rows: N or B is 0."""
        if not self.training:
            return super().forward(x)
        return _synchronized(x, self)


@torch.compiler.disable
def _synchronized(x: Tensor, norm: SynchronizedBatchNorm) -> Tensor:
    return _Normalize.apply(x, norm.weight, norm.bias, norm)


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: SynchronizedBatchNorm) -> Tensor:
        x = _dense(x, like=x)
        mean, invstd, counts, several = _joint_statistics(x, norm)
        ctx.save_for_backward(x, weight, mean, invstd, counts.to(torch.int32), several)
        ctx.group = norm.group
        return _normalize(x, weight, bias, mean, invstd, norm.eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        x, weight, mean, invstd, counts, several = ctx.saved_tensors
        grad = _dense(grads[0], like=x)
        sum_dy, sum_dy_xmu, grad_weight, grad_bias = _sums(grad, x, mean, invstd, weight)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, grad_bias, None
        sums = torch.cat([sum_dy, sum_dy_xmu])
        dist.all_reduce(sums, group=ctx.group)
        if several is not None:
            sums = torch.where(several, sums, 0)  # running statistics do not depend on the rows
        sum_dy, sum_dy_xmu = sums.chunk(2)
        return _input_grad(grad, x, mean, invstd, weight, sum_dy, sum_dy_xmu, counts), grad_weight, grad_bias, None


def _dense(x: Tensor, like: Tensor) -> Tensor:
    """The tensor in the memory layout of the other one: channels-last where that is, else contiguous."""
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _joint_statistics(x: Tensor, norm: SynchronizedBatchNorm) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gathers all processes' statistics and updates the running ones.

    Returns mean [C], 1 / standard deviation [C], rows of each process [P], and, where this process alone cannot tell,
    whether they are several rows together.
    """
    rows = x.numel() // norm.num_features
    means, invstds, counts = _gather(*_statistics(x, norm.eps), rows, norm.group)
    running = norm.running_mean, norm.running_var
    if rows > 1:
        return *_combine(x, means, invstds, *running, norm.momentum, norm.eps, counts), counts, None
    several = counts.sum() > 1
    updated = running[0].clone(), running[1].clone()
    mean, invstd = _combine(x, means, invstds, *updated, norm.momentum, norm.eps, counts)
    mean = torch.where(several, mean, running[0])
    invstd = torch.where(several, invstd, (running[1] + norm.eps).rsqrt())
    for old, new in zip(running, updated, strict=True):
        old.copy_(torch.where(several, new, old))
    return mean, invstd, counts, several


def _gather(mean: Tensor, invstd: Tensor, rows: int, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Statistics [C] of a process -> means and 1 / standard deviations [P, C], rows [P] of all; one collective."""
    packed = torch.cat([mean, invstd, mean.new_full((1,), rows or NO_ROWS)])
    gathered = packed.new_empty(dist.get_world_size(group), len(packed))
    if packed.is_cuda:
        dist.all_gather_into_tensor(gathered.view(-1), packed, group=group)
    else:
        dist.all_gather(list(gathered.unbind()), packed, group=group)
    means, invstds, counts = gathered.split([len(mean), len(mean), 1], 1)
    return means, invstds, counts.squeeze(1)


# --- on a GPU the kernels of nn.SyncBatchNorm, on a CPU the same in plain operations ---


def _others(x: Tensor) -> list[int]:
    """The dimensions of rows: all but the channels."""
    return [dim for dim in range(x.dim()) if dim != 1]


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.dim() - 2))


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / sqrt(variance + eps) of each channel, at least float32; 0 and 1 of no rows."""
    if x.numel() == 0:
        zeros = x.new_zeros(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        return zeros, zeros + 1
    if x.is_cuda:
        return torch.batch_norm_stats(x, eps)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(x, _others(x), correction=0)
    return mean, (variance + eps).rsqrt()


def _combine(
    x: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Statistics [P, C] of counts [P] rows -> mean and 1 / sqrt(variance + eps) [C] of all rows.

    Updates the running statistics, which are not numbers after a single row.
    """
    if x.is_cuda:
        return torch.batch_norm_gather_stats_with_counts(
            x, means, invstds, running_mean, running_var, momentum, eps, counts
        )
    total = counts.sum()
    share = (counts / total)[:, None]
    mean = (share * means).sum(0)
    variance = (share * (invstds**-2 - eps + (means - mean) ** 2)).sum(0)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * (total / (total - 1)), momentum)
    return mean, (variance + eps).rsqrt()


def _normalize(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    if x.numel() == 0:
        return torch.empty_like(x)
    if x.is_cuda:
        return torch.batch_norm_elemt(x, weight, bias, mean, invstd, eps)
    mean, factor, bias = (_per_channel(values, x) for values in (mean, weight * invstd, bias))
    return ((x - mean) * factor + bias).to(x.dtype)


def _sums(
    grad: Tensor, x: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums [C] over this process's rows of the gradient dy and of dy (x - mean); gradients of weight and bias."""
    if x.numel() == 0:
        zeros = torch.zeros_like(mean)
        return zeros, zeros, torch.zeros_like(weight), torch.zeros_like(weight)
    if x.is_cuda:
        return torch.batch_norm_backward_reduce(grad, x, mean, invstd, weight, True, True, True)
    grad = grad.to(mean.dtype)
    sum_dy = grad.sum(_others(x))
    sum_dy_xmu = (grad * (x - _per_channel(mean, x))).sum(_others(x))
    return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd, sum_dy


def _input_grad(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor,
    sum_dy: Tensor,
    sum_dy_xmu: Tensor,
    counts: Tensor,
) -> Tensor:
    if x.numel() == 0:
        return torch.empty_like(x)
    if x.is_cuda:
        return torch.batch_norm_backward_elemt(grad, x, mean, invstd, weight, sum_dy, sum_dy_xmu, counts)
    total = counts.sum()
    shift, slope = sum_dy / total, sum_dy_xmu / total * invstd**2
    mean, shift, slope, factor = (_per_channel(values, x) for values in (mean, shift, slope, weight * invstd))
    return ((grad - shift - (x - mean) * slope) * factor).to(x.dtype)
