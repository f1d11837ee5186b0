"""Which frames a process sees in an epoch, and in which order."""

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index), so that the data set can seed a sample without knowing the worker that makes it.

    With `pad`, every process gets equally many frames: ceil(num_frames / world_size), the list being filled up from
    its start; without, the processes share out the frames, each exactly once.

    Args:
        num_frames: length of the data set.
        rank, world_size: this process and the number of processes.
        shuffle: another order in every epoch, the same in all processes.
        seed: seed of the order.
        pad: see above.
    """

    def __init__(
        self,
        num_frames: int,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = False,
        seed: int = 0,
        pad: bool = True,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank should lie in 0..{world_size - 1}, not {rank}")
        self.num_frames, self.rank, self.world_size = num_frames, rank, world_size
        self.shuffle, self.seed, self.pad = shuffle, seed, pad
        self.epoch, self.skip = 0, 0

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Sets the epoch, counted from 0, of the next iteration, and how many of this process's frames it leaves out at
        its start: those that were seen before an interruption."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        """Frames of a whole epoch."""
        if self.pad:
            return math.ceil(self.num_frames / self.world_size)
        return len(range(self.rank, self.num_frames, self.world_size))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.num_frames)
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_frames)
        if self.pad:
            order = np.resize(order, len(self) * self.world_size)  # repeats from the start
        epoch = self.epoch
        own = order[self.rank :: self.world_size][self.skip :]
        return ((epoch, int(index)) for index in own)
