"""Pre-emption: on SIGTERM or SIGUSR1 training writes a checkpoint and exits with a status that says "resume me"."""

import signal
from types import FrameType
from typing import Any

from torchpack.callbacks import Callback

from core.comm import any_process
from core.errors import Preempted
from core.resume import CheckpointSaver

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Callback):
    """Stops training after the step, or the batch of validation, in which a signal came to one of the processes.

    The processes ask each other after every step, so that all of them stop at the same one.
    """

    def __init__(self, saver: CheckpointSaver):
        self.saver = saver
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}

    def _before_train(self) -> None:
        self.handlers = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def _after_train(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def _trigger_step(self) -> None:
        self.check()

    def check(self) -> None:
        """Raises Preempted, with a checkpoint written, when a signal has come. All processes call it together."""
        if not any_process(self.signal is not None):
            return
        path = self.saver.save(epoch_finished=False)
        name = signal.Signals(self.signal).name if self.signal is not None else "a signal to another process"
        raise Preempted(
            f"Stopped by {name} after step {self.trainer.global_step}: {path} is written, and the same command goes on."
        )
