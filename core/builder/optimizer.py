"""Optimiser, learning rate and precision of training."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torchpack import distributed as dist
from torchpack.utils.config import Config

from core.training.schedulers import cosine_warmup


def training_precision(config: Config, device: torch.device) -> str:
    """What training computes in: "float32", "tf32", or the type of mixed precision."""
    if config.amp_enabled:
        return config.amp_dtype
    return "tf32" if device.type == "cuda" and config.train.tf32 else "float32"


def make_optimizer(config: Config, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters; on a GPU its update is one kernel for many of them."""
    o, parameters = config.optimizer, list(network.parameters())
    # PyTorch 2.4 refuses gradients of 1x1 kernels, whose strides are written differently
    fused = (parameters[0].is_cuda and torch.__version__ >= "2.5") or None
    optimizer: torch.optim.Optimizer
    if o.name == "sgd":
        optimizer = torch.optim.SGD(
            parameters, o.lr, o.momentum, weight_decay=o.weight_decay, nesterov=o.nesterov, fused=fused
        )
    else:
        optimizer = torch.optim.AdamW(parameters, lr=o.lr, weight_decay=o.weight_decay, fused=fused)
    optimizer.register_load_state_dict_pre_hook(partial(_with_own_update, fused))
    return optimizer


def _with_own_update(fused: bool | None, _: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A loaded state without the choice of kernels of the machine that wrote it."""
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}


def make_schedule(config: Config, num_frames: int) -> Any:
    """The factor on the learning rate, as a function of the iteration."""
    s = config.scheduler
    if s.name == "cosine_warmup":
        return cosine_warmup(
            config.num_epochs,
            num_frames,
            config.batch_size,
            dist.size(),
            s.warmup_iterations,
            s.warmup_one_process,
        )
    return lambda iteration: 1.0


def amp_dtype(config: Config) -> torch.dtype | None:
    """The precision of mixed-precision training, or None."""
    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[config.amp_dtype] if config.amp_enabled else None
