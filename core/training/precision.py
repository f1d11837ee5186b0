"""The arithmetic of E-steps and evaluations: float32, and the same in every run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torchpack.utils.logging import logger


@contextmanager
def reproducible_float32() -> Iterator[None]:
    """Within it a GPU multiplies and convolves in float32, not TF32, by algorithms that are chosen without being timed
    and whose sums are of a fixed order; nothing changes on a CPU."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32
    try:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = False, True, False, False
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32 = before


def say_float32(amp_enabled: bool, step: str) -> None:
    """Says that a step computes in float32 where the configuration asks training for less."""
    if amp_enabled:
        logger.info(f"amp_enabled is for training: the {step} computes in float32.")
