"""Batch norm of a single row: a scan of one point, or one that lies in one coarse voxel as a whole."""

from typing import Any

from torch import nn


def tolerate_single_rows(network: nn.Module) -> None:
    """Makes the batch norms over points use their running statistics for a single row, which PyTorch refuses to train.

    Synchronised ones do so by themselves, and count the rows of all processes.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.register_forward_pre_hook(_before)
            module.register_forward_hook(_after, always_call=True)


def _before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    rows = inputs[0]
    if module.training and rows.numel() == rows.shape[1]:
        module.training, module.has_single_row = False, True  # type: ignore[assignment]


def _after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if getattr(module, "has_single_row", False):
        module.training, module.has_single_row = True, False  # type: ignore[assignment]
