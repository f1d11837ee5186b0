"""Batch norm that also trains on a single row, and whose batches are counted once a step for a whole network.

PyTorch's refuses to train on a single row: a scan of one point, or one that lies in one coarse voxel as a whole. And it
adds to its counter by an operation in each layer.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class UncountedBatchNorm(_BatchNorm):
    """`nn.BatchNorm` that normalises a single row by the running statistics, which it leaves as they are. Batches are
    counted by who trains (`batch_counters`)."""

    def forward(self, x: Tensor) -> Tensor:
        trains = self.training and x.numel() > self.num_features
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, trains, momentum, self.eps)


class BatchNorm1d(UncountedBatchNorm, nn.BatchNorm1d):
    """Over the rows of [N, C]."""


class BatchNorm2d(UncountedBatchNorm, nn.BatchNorm2d):
    """Over the pixels of [B, C, H, W]."""


def batch_counters(network: nn.Module) -> list[Tensor]:
    """The buffers `num_batches_tracked` of all batch norms, for `torch._foreach_add_` at each training step.

    Nothing here reads them; checkpoints hold them, as those of PyTorch's batch norm do.
    """
    norms = (module for module in network.modules() if isinstance(module, UncountedBatchNorm))
    return [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
