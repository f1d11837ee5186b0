"""What happens between the steps of training: resuming, validation, saving, writing scalars."""

import json
import math
import os
from collections import deque
from typing import Any

import numpy as np
from torchpack.callbacks import Callback
from torchpack.callbacks.writers import SummaryWriter
from torchpack.utils.logging import logger

from core.checkpoint import (
    check_fits,
    network_state,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
    step_checkpoints,
)
from core.comm import broadcast_buffers, sum_over_processes
from core.errors import UserError
from core.evaluation import HEADS, confusion_in_view
from core.metrics import class_iou, mean_iou
from core.progress import progress

TRAINING_STATE = ("model", "optimizer", "scheduler", "scaler", "callbacks", "epoch_num", "local_step", "global_step")
"""What a checkpoint holds to go on from."""


class Resume(Callback):
    """Goes on from the newest checkpoint of the folder, or from a given one."""

    def __init__(self, folder: str, path: str | None = None):
        self.folder, self.path = folder, path

    def _before_train(self) -> None:
        path = newest_checkpoint(self.folder) or self.path
        if path is None:
            return
        state = read_checkpoint(path)
        missing = [key for key in TRAINING_STATE if key not in state]
        if missing:
            raise UserError(
                f"{path}: cannot be gone on from, '{missing[0]}' is missing in it; expected a whole "
                "checkpoint of a training command (step-*.pt or max-iou-*-val.pt)"
            )
        check_fits(self.trainer.network, network_state(state), path)
        self.trainer.load_state_dict(state)
        logger.info(f"Going on from {path}, epoch {self.trainer.epoch_num} of {self.trainer.num_epochs}.")


class Validation(Callback):
    """Scores both heads on the points in view, every few epochs and after the last.

    Adds `iou/vox/val` and `iou/pix/val` (mean IoU, %) and the per-class IoUs of the point head to the summary.
    """

    def __init__(self, loader: Any, class_names: tuple[str, ...], ignore_index: int, every: int):
        self.loader, self.class_names, self.ignore_index, self.every = loader, class_names, ignore_index, every

    def _trigger_epoch(self) -> None:
        epoch = self.trainer.epoch_num
        if epoch != self.trainer.num_epochs and (self.every < 1 or epoch % self.every):
            return
        broadcast_buffers(self.trainer.network)
        num_classes = len(self.class_names)
        counts = np.zeros((len(HEADS), num_classes, num_classes), np.int64)
        for batch in progress(self.loader, len(self.loader), f"validation {epoch}"):
            outputs = self.trainer.evaluation_step(batch)
            counts += confusion_in_view(outputs, batch, self.loader.dataset.reader, num_classes)
        counts = sum_over_processes(counts)
        for head, confusion in zip(HEADS, counts, strict=True):
            self.trainer.summary.add_scalar(f"iou/{head}/val", 100 * mean_iou(confusion, self.ignore_index))
        for name, iou in zip(self.class_names, class_iou(counts[0], self.ignore_index), strict=True):
            if np.isfinite(iou):
                self.trainer.summary.add_scalar(f"iou/vox/val/{name}", 100 * iou)


class CheckpointSaver(Callback):
    """Writes step-N.pt after every epoch and keeps the newest few. Stands last, so that the others' states are in."""

    master_only = True

    def __init__(self, folder: str, keep: int):
        self.folder, self.keep = folder, keep
        self.written: deque[str] = deque()

    def _before_train(self) -> None:
        self.written = deque(step_checkpoints(self.folder))

    def _trigger_epoch(self) -> None:
        path = os.path.join(self.folder, f"step-{self.trainer.global_step}.pt")
        save_checkpoint(path, self.trainer.state_dict())
        if path not in self.written:
            self.written.append(path)
        while len(self.written) > self.keep:
            oldest = self.written.popleft()
            if os.path.exists(oldest):
                os.remove(oldest)


class BestSaver(Callback):
    """Writes max-iou-HEAD-val.pt whenever the head's mean IoU is the best so far.

    Args:
        validated: without validation (no labels for it), the newest weights count as the best.
    """

    master_only = True

    def __init__(self, folder: str, head: str, validated: bool = True):
        self.validated = validated
        self.scalar, self.path = f"iou/{head}/val", os.path.join(folder, f"max-iou-{head}-val.pt")
        self.best: float | None = None
        self.step: int | None = None

    def _trigger_epoch(self) -> None:
        if not self.validated:
            save_checkpoint(self.path, self.trainer.state_dict())
        if self.scalar not in self.trainer.summary:
            return
        step, value = self.trainer.summary[self.scalar][-1]
        if step == self.step:
            return
        self.step = step
        if self.best is None or value > self.best or not os.path.exists(self.path):
            self.best = value
            save_checkpoint(self.path, self.trainer.state_dict())
            logger.info(f"Best {self.scalar} so far: {value:.2f} ({self.path}).")

    def _state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "step": self.step}

    def _load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.step = state["best"], state["step"]


class ScalarsWriter(SummaryWriter):
    """Appends one JSON line per step with scalars to RUN/scalars.jsonl: stage, epoch, step and the values."""

    def __init__(self, path: str, stage: str):
        self.path, self.stage = path, stage
        self.scalars: dict[str, float | None] = {}

    def _add_scalar(self, name: str, scalar: int | float) -> None:
        self.scalars[name] = scalar if math.isfinite(scalar) else None

    def _trigger_step(self) -> None:
        self._write()

    def _trigger_epoch(self) -> None:
        self._write()

    def _write(self) -> None:
        if not self.scalars:
            return
        line = {"stage": self.stage, "epoch": self.trainer.epoch_num, "step": self.trainer.global_step, **self.scalars}
        self.scalars = {}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
