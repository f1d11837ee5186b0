"""Checkpoints to go on from, as if training had never stopped: writing them and taking them up again."""

import os
from collections import deque
from typing import Any

from torchpack import distributed as dist
from torchpack.callbacks import Callback
from torchpack.utils.logging import logger

from core.errors import UserError
from core.running.comm import all_objects, barrier
from core.running.files import remove_unfinished
from core.training.checkpoint import (
    check_fits,
    network_state,
    newest_readable_checkpoint,
    read_checkpoint,
    save_checkpoint,
    step_checkpoints,
)
from core.training.network_input import check_input
from core.training.state import random_state, restore_random_state

TRAINING_STATE = ("model", "optimizer", "scheduler", "scaler", "callbacks", "epoch_num", "local_step", "global_step")
"""What a checkpoint holds to go on from: the published keys."""

EXACT_STATE = "exact_resume"
"""Key of what it holds besides, to go on exactly; see `CheckpointSaver`."""


def find_checkpoint(folder: str) -> tuple[str, dict[str, Any]] | None:
    """Path and content of the newest readable step-N.pt of the folder, the same in all processes; None without any."""
    found = newest_readable_checkpoint(folder) if dist.is_master() else None
    path = all_objects(found and found[0])[0]
    if path is None:
        return None
    return found or (path, read_checkpoint(path))


def is_finished(epoch: int, exact: dict[str, Any] | None, num_epochs: int) -> bool:
    """Whether a checkpoint is of the end of training; one with the published keys alone is of the end of its epoch."""
    return epoch >= num_epochs and (exact is None or exact["epoch_finished"])


class Resume(Callback):
    """Goes on from a checkpoint, or starts anew where `path` is None."""

    def __init__(self, path: str | None):
        self.path = path

    def _before_train(self) -> None:
        if self.path is None:
            return
        path, state = self.path, read_checkpoint(self.path)
        missing = [key for key in TRAINING_STATE if key not in state]
        if missing:
            raise UserError(
                f"{path}: cannot be gone on from, '{missing[0]}' is missing in it; expected a whole "
                "checkpoint of a training command (step-*.pt or max-iou-*-val.pt)"
            )
        check_fits(self.trainer.network, network_state(state), path)
        check_input(state, self.trainer.network_input, path)
        trainer, step = self.trainer, state["local_step"]
        trainer.load_state_dict(state)
        logger.info(f"Going on from {path}, epoch {trainer.epoch_num} of {trainer.num_epochs}, step {step} of it.")
        exact = state.get(EXACT_STATE)
        if is_finished(trainer.epoch_num, exact, trainer.num_epochs):
            raise UserError(
                f"{path}: of epoch {trainer.epoch_num} of {trainer.num_epochs}, so that nothing is left to train; "
                "raise num_epochs, or start without --weight-path"
            )
        if exact is not None:
            self._restore(path, exact, step)

    def _restore(self, path: str, exact: dict[str, Any], step: int) -> None:
        trainer = self.trainer
        shape, wanted = exact["shape"], run_shape(trainer)
        own = None
        if shape == wanted:
            own = exact["processes"][dist.rank()]
            trainer.network.load_state_dict(own["buffers"], strict=False)
            restore_random_state(own["random"])
        else:
            changes = ", ".join(f"{key} {shape[key]} -> {wanted[key]}" for key in wanted if shape[key] != wanted[key])
            logger.warning(f"{path}: {changes}: training goes on, but not exactly as it would have.")
            step = step * shape["batch size"] * shape["processes"] // (wanted["batch size"] * wanted["processes"])
        if not exact["epoch_finished"]:
            trainer.go_on_within_epoch(min(step, trainer.steps_per_epoch), own and own["random"])


def run_shape(trainer: Any) -> dict[str, int]:
    """What the position within an epoch is counted in."""
    loader = trainer.dataflow
    return {"processes": dist.size(), "batch size": loader.batch_size, "frames": len(loader.dataset)}


class CheckpointSaver(Callback):
    """Writes step-N.pt after every epoch, and every few steps, and keeps the newest few.

    Stands last, so that the others' states are in. Beside the published keys a checkpoint holds, under EXACT_STATE,
    whether the epoch with its validation was finished, what its position is counted in, and each process's generators
    and buffers; all in one file, which is there as a whole or not at all.

    Args:
        folder: where to.
        keep: so many of the newest stay.
        every: also after every so many steps; 0: after epochs alone.
    """

    def __init__(self, folder: str, keep: int, every: int = 0):
        self.folder, self.keep, self.every = folder, keep, every
        self.written: deque[str] = deque()

    def _before_train(self) -> None:
        self.written = deque(step_checkpoints(self.folder))
        if dist.is_master():
            remove_unfinished(self.folder)

    def _trigger_step(self) -> None:
        if self.every > 0 and self.trainer.global_step % self.every == 0:
            self.save(epoch_finished=False)

    def _trigger_epoch(self) -> None:
        self.save(epoch_finished=True)

    def save(self, epoch_finished: bool) -> str:
        """Writes the checkpoint of this step, for all processes together; returns its path."""
        path = os.path.join(self.folder, f"step-{self.trainer.global_step}.pt")
        buffers = {name: value.cpu() for name, value in self.trainer.network.named_buffers()}  # not all synchronised
        processes = all_objects({"random": random_state(), "buffers": buffers})
        if dist.is_master():
            exact = {"epoch_finished": epoch_finished, "shape": run_shape(self.trainer), "processes": processes}
            save_checkpoint(path, {**self.trainer.state_dict(), EXACT_STATE: exact})
            self._forget_older(path)
        barrier()
        return path

    def _forget_older(self, path: str) -> None:
        if path in self.written:
            self.written.remove(path)
        self.written.append(path)
        while len(self.written) > max(self.keep, 1):
            oldest = self.written.popleft()
            if os.path.exists(oldest):
                os.remove(oldest)
