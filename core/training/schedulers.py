"""Learning rate schedules: factors on the base rate, per iteration."""

import math
from collections.abc import Callable


def cosine_warmup(
    num_epochs: int,
    num_frames: int,
    batch_size: int,
    processes: int,
    warmup_iterations: int = 1000,
    warmup_one_process: bool = False,
) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine.

    With iterations per epoch = ceil(frames / (batch_size * processes)), T = epochs times that, and
    W = warmup_iterations // processes: (k + 1) / W below W, then (1 + cos(π (k - W) / T)) / 2. With one process W is 0,
    or with warmup_one_process min(warmup_iterations, T // 8).

    Returns the factor as a function of the iteration k, counted from 0.
    """
    iterations = num_epochs * math.ceil(num_frames / (batch_size * processes))
    warmup = warmup_iterations // processes
    if processes == 1:  # T // 8: so that short trainings of few frames come to their rate
        warmup = min(warmup, iterations // 8) if warmup_one_process else 0

    def factor(k: int) -> float:
        if k < warmup:
            return (k + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (k - warmup) / iterations))

    return factor
