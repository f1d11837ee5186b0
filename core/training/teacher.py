"""A teacher: the moving average of the weights of a network in training (Tarvainen and Valpola, NeurIPS 2017)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

TEACHER = "teacher"
"""Key of its state in a checkpoint, beside the published keys: parameters and statistics of batch norms, by their names
in the network's state."""


class Teacher:
    """Average of a network's parameters and batch norm statistics, one step after the other.

    Args:
        network: that it starts from, not wrapped in DDP.
        decay: share of the average that a step keeps, in (0, 1); in step k, from 0, at most (1 + k) / (10 + k), so that
            the random weights of the start are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.averaged = {name: value for name, value in _tensors(network) if value.is_floating_point()}
        self.state: dict[str, Tensor] = {}
        self.restart()

    @torch.no_grad()
    def restart(self) -> None:
        """Takes the network as it is."""
        self.state = {name: value.detach().clone() for name, value in self.averaged.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes the average of a checkpoint."""
        for name, value in self.state.items():
            value.copy_(state[name])

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Adds the network as it is after step k, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own, current = list(self.state.values()), [value.detach() for value in self.averaged.values()]
        torch._foreach_lerp_(own, current, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the network has the average's values. Nothing may be trained or stored meanwhile."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self.averaged.items():
            own = self.state[name]
            value.data, own.data = own.data, value.data


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What the network's state holds."""
    stored = network.state_dict().keys()
    for tensors in (network.named_parameters(), network.named_buffers()):
        yield from ((name, value) for name, value in tensors if name in stored)


def teacher_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The teacher's state in a checkpoint; None where there is none."""
    state = checkpoint.get(TEACHER)
    if not isinstance(state, Mapping):
        return None
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
