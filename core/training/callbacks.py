"""What happens between the steps of training: validation, saving the best, writing scalars."""

import json
import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from torchpack.callbacks import Callback, ProgressBar, TFEventWriter
from torchpack.callbacks.writers import SummaryWriter
from torchpack.utils.logging import logger

from core.label_files.errors import writing
from core.running.comm import broadcast_buffers, min_over_processes, sum_over_processes
from core.running.files import remove_unfinished, write_atomic
from core.running.progress import progress
from core.scores.evaluation import HEADS, ConfusionCounts, batch_points, count_in_view, head_labels
from core.scores.metrics import class_iou, mean_iou
from core.training.checkpoint import save_checkpoint
from core.training.state import random_state, restore_random_state


class Validation(Callback):
    """Scores both heads on the points in view, every few epochs and after the last.

    Adds `iou/vox/val` and `iou/pix/val` (mean IoU, %) and the per-class IoUs of the point head to the summary.

    Args:
        between_batches: called by all processes, equally often; by default it does nothing.
    """

    def __init__(
        self, loader: Any, class_names: tuple[str, ...], every: int, between_batches: Callable[[], None] = lambda: None
    ):
        self.loader, self.class_names, self.every = loader, class_names, every
        self.between_batches = between_batches

    def _trigger_epoch(self) -> None:
        epoch = self.trainer.epoch_num
        if epoch != self.trainer.num_epochs and (self.every < 1 or epoch % self.every):
            return
        state = random_state()  # starting the loader's processes draws from the generators
        self._validate(epoch)
        restore_random_state(state)

    def _validate(self, epoch: int) -> None:
        broadcast_buffers(self.trainer.network)
        num_classes = len(self.class_names)
        device = self.trainer.device
        seen = ConfusionCounts((len(HEADS),), num_classes, device)
        everywhere = self.loader.dataset.reader.annotate == "all"
        common = min_over_processes(len(self.loader))  # a process may have a batch more than another
        for k, batch in enumerate(progress(self.loader, len(self.loader), f"validation {epoch}")):
            if k < common:
                self.between_batches()
            batch = batch.to(device, non_blocking=True)
            points = batch_points(batch)
            labels = head_labels(self.trainer.evaluation_step(batch), points)
            count_in_view(seen, labels, points, everywhere)
        counts = sum_over_processes(seen.numpy())
        for head, confusion in zip(HEADS, counts, strict=True):
            if head == "vox" or confusion.any():  # a network may lack the image head
                self.trainer.summary.add_scalar(f"iou/{head}/val", 100 * mean_iou(confusion))
        for name, iou in zip(self.class_names, class_iou(counts[0]), strict=True):
            if np.isfinite(iou):
                self.trainer.summary.add_scalar(f"iou/vox/val/{name}", 100 * iou)


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


class StepBar(ProgressBar):
    """The bar of an epoch; one that is gone on with starts where it was left."""

    def _before_epoch(self) -> None:
        super()._before_epoch()
        self.pbar.update(self.trainer.local_step)


class EventWriter(TFEventWriter):
    """TensorBoard's events; those of steps that are run again after a crash are dropped from its pictures."""

    writer: Any = None

    def _set_trainer(self, trainer: Any) -> None:
        """Nothing yet: the step to go on from is not known."""

    def _before_train(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with writing(self.save_dir):
            self.writer = SummaryWriter(self.save_dir, purge_step=self.trainer.global_step + 1)

    def _after_train(self) -> None:
        if self.writer is not None:
            self.writer.close()


class ScalarsWriter(SummaryWriter):
    """Appends one JSON line per step with scalars to RUN/scalars.jsonl: stage, epoch, step and the values.

    What an interrupted run wrote of steps that are run again is taken out first.
    """

    def __init__(self, path: str, stage: str):
        self.path, self.stage = path, stage
        self.scalars: dict[str, float | None] = {}

    def _before_train(self) -> None:
        remove_unfinished(os.path.dirname(self.path))
        if os.path.exists(self.path):
            with writing(self.path), open(self.path, "rb") as file:
                lines = file.read().splitlines(keepends=True)
            kept = [line for line in lines if self._counts(line)]
            if kept != lines:
                with writing(self.path), write_atomic(self.path) as file:
                    file.writelines(kept)

    def _counts(self, text: bytes) -> bool:
        """Whether a line is of another stage, or of a step (and its validation) that is not run again."""
        try:
            line = json.loads(text)
            stage, step, scored = line["stage"], line["step"], "iou/vox/val" in line
        except (ValueError, TypeError, KeyError):
            return False  # a crash may leave half a line
        done = self.trainer.global_step
        again = step > done or (step == done and scored and self.trainer.steps_done > 0)
        return text.endswith(b"\n") and (stage != self.stage or not again)

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
        with writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
