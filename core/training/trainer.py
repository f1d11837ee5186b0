"""One training loop for pretraining, M-steps, baselines and full supervision: they differ in label sources alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torchpack import distributed as dist
from torchpack.train import Trainer

from core.loader.collate import LABELLED, Batch
from core.loader.sampler import EpochSampler
from core.losses import LossWeights, Targets, gradient_sizes, loss_terms
from core.models.batch_norm import batch_counters
from core.models.two_branch import Outputs, keeping_image_map, without_unread_heads
from core.training.checkpoint import network_state
from core.training.network_input import STORED
from core.training.state import RandomState, epoch_seed, restore_random_state


class TrainingError(RuntimeError):
    """Training cannot go on; earlier checkpoints are intact."""


class SegmentationTrainer(Trainer):
    """Trains the two-branch network.

    Args:
        model: the network, wrapped in DDP where several processes train together.
        weights: of the loss terms.
        optimizer, schedule: optimiser, and the factor on its rate as a function of the iteration.
        device: where the network is.
        amp_dtype: torch.bfloat16 or torch.float16 for mixed precision (float16 with a gradient scaler), or None.
        log_every: scalars of the losses are written every so many iterations.
        network_input: what the network's input means, for its checkpoints (see core/training/network_input.py).
        gradients_every: the size of each term's gradient is measured and written every so many iterations; 0: never.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: LossWeights,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float],
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
        log_every: int = 10,
        network_input: Mapping[str, Any] | None = None,
        gradients_every: int = 0,
    ):
        self.model, self.weights, self.optimizer = model, weights, optimizer
        self.device, self.amp_dtype, self.log_every = device, amp_dtype, log_every
        self.network_input = dict(network_input or {})
        self.gradients_every, self.gradients = gradients_every, dict[str, float]()
        self.seed = torch.initial_seed()
        self.batch_counters = batch_counters(model)
        self.steps_done = 0  # more: the next epoch is the rest of an interrupted one
        self.random: RandomState | None = None
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp_dtype == torch.float16)

    def _before_epoch(self) -> None:
        self.model.train()
        sampler = self.dataflow.sampler
        if isinstance(sampler, EpochSampler):
            sampler.set_epoch(self.epoch_num - 1, skip=self.steps_done * self.dataflow.batch_size)
        self.local_step, self.steps_done = self.steps_done, 0

    def go_on_within_epoch(self, steps_done: int, random: RandomState | None) -> None:
        """The epoch that was loaded is not at its end: the next one is its rest, from this state of the generators."""
        self.epoch_num -= 1
        self.steps_done, self.random = steps_done, random

    def _before_step(self, batch: Batch) -> None:
        """Sets the generators, now that starting the loader's processes has drawn from them."""
        if self.local_step == 1:
            torch.manual_seed(epoch_seed(self.seed, dist.rank(), self.epoch_num))  # dropout follows the epoch
            self.random = None
        self._restore_random()

    def _after_epoch(self) -> None:
        self._restore_random()  # where no step was left

    def _restore_random(self) -> None:
        if self.random is not None:
            restore_random_state(self.random)
        self.random = None

    def _run_step(self, batch: Batch) -> dict[str, Any]:
        values = self.update(batch)
        self._write_scalars(values)
        self.scheduler.step()
        return values

    def update(self, batch: Batch) -> dict[str, float]:
        """Forward, loss, backward, update; returns the loss terms.

        Raises TrainingError, before the update, where one is not finite.
        """
        batch = batch.to(self.device, non_blocking=True)
        measures = self.gradients_every > 0 and (self.iteration + 1) % self.gradients_every == 0
        with self._autocast(), keeping_image_map(self.network, measures):
            outputs = self.model(**network_inputs(batch))
        if self.batch_counters:
            torch._foreach_add_(self.batch_counters, 1)
        weights = self.weights.at(self.iteration)
        terms = loss_terms(outputs, targets_of(batch), weights)
        read = _read_later(torch.stack([term.detach() for term in terms.values()]))
        self.gradients = self._gradient_sizes(terms, weights, outputs) if measures else {}
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(terms["total"]).backward()
        values = dict(zip(terms, read(), strict=True))
        if not all(map(_is_finite, values.values())):
            raise TrainingError(self._describe(values, batch))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return values

    def _gradient_sizes(
        self, terms: Mapping[str, torch.Tensor], weights: LossWeights, outputs: Outputs
    ) -> dict[str, float]:
        """Size of each term's gradient in this process, by branch and term; see `gradient_sizes`."""
        features = {"point": outputs.features}
        if outputs.image_map is not None:
            features["image"] = outputs.image_map
        sizes = gradient_sizes(terms, weights, features, self.scaler.scale)
        values = (torch.stack(list(sizes.values())) / self.scaler.get_scale()).tolist()
        return dict(zip(sizes, values, strict=True))

    def evaluation_step(self, batch: Batch) -> Outputs:
        """The network's logits in evaluation mode, without gradient, in training's precision."""
        self.model.eval()
        with torch.no_grad(), self._autocast(), without_unread_heads(self.network):
            return self.network(**network_inputs(batch.to(self.device, non_blocking=True)))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None)

    def _write_scalars(self, values: dict[str, float]) -> None:
        for name, value in self.gradients.items():
            self.summary.add_scalar(f"gradient/{name}", value, max_to_keep=1)
        if self.global_step % self.log_every and self.local_step != self.steps_per_epoch:
            return
        for name, value in values.items():
            self.summary.add_scalar(f"loss/{name}", value, max_to_keep=1)
        self.summary.add_scalar("lr", self.optimizer.param_groups[0]["lr"], max_to_keep=1)

    def _describe(self, values: dict[str, float], batch: Batch) -> str:
        broken = ", ".join(f"{name}={value}" for name, value in values.items() if not _is_finite(value))
        return (
            f"The loss is not finite at step {self.global_step}, epoch {self.epoch_num}: {broken} "
            f"(all terms: {values}; frames: {', '.join(batch.tokens)}). A lower optimizer.lr or amp_enabled false may "
            "help; the command goes on from the last checkpoint."
        )

    @property
    def iteration(self) -> int:
        """The iteration that the schedules are at, from 0; checkpoints hold it."""
        return self.scheduler.last_epoch

    @property
    def network(self) -> nn.Module:
        """The network itself, out of DDP."""
        return self.model.module if isinstance(self.model, nn.parallel.DistributedDataParallel) else self.model

    def _state_dict(self) -> dict[str, Any]:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            STORED: self.network_input,
        }

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(network_state(state))
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])


def network_inputs(batch: Batch) -> dict[str, Any]:
    """The fields of a batch that the network takes."""
    return {name: getattr(batch, name) for name in ("coords", "feats", "images", "image_index", "pixel", "coarser")}


def targets_of(batch: Batch) -> Targets:
    """The labels of a batch; sparse ones override propagated ones."""
    labels = {name: getattr(batch, field) for name, field in LABELLED.items()}
    labels["propagated"] = torch.where(batch.sparse_label != 0, batch.sparse_label, batch.propagated_label)
    return Targets(labels, batch.labelled)


def _read_later(values: torch.Tensor) -> Callable[[], list[float]]:
    """Begins to copy values to the host and returns what waits for them: a GPU meanwhile goes on with what it is given
    next, and the host waits for nothing that comes after them."""
    copied = values.to("cpu", non_blocking=True)
    if not values.is_cuda:
        return copied.tolist
    event = torch.cuda.Event()
    event.record()

    def read() -> list[float]:
        event.synchronize()
        return copied.tolist()

    return read


def _is_finite(value: float) -> bool:
    return value - value == 0
