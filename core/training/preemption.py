"""What stops training from outside: stalls, and SIGTERM or SIGUSR1, with a checkpoint and a status to resume by."""

import signal
from types import FrameType
from typing import Any

from torchpack.callbacks import Callback

from core.errors import Preempted
from core.running.comm import any_process
from core.running.stalls import mark, set_patience
from core.training.resume import CheckpointSaver

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Preemption(Callback):
    """Stops training after the step, or the batch of validation, in which a signal came to one of the processes.

    The processes ask each other after every step, so that all of them stop at the same one.

    Args:
        saver: writes the checkpoint.
        patience: minutes that training waits for a process that does not come on; 0: for ever.
    """

    def __init__(self, saver: CheckpointSaver, patience: float = 0):
        self.saver, self.patience = saver, patience
        self.signal: int | None = None
        self.handlers: dict[int, Any] = {}

    def _before_train(self) -> None:
        self.handlers = {number: signal.signal(number, self._remember) for number in SIGNALS}
        set_patience(60 * self.patience or None)

    def _before_step(self, batch: Any) -> None:
        mark()  # a process whose batch does not come is behind the others

    def _after_train(self) -> None:
        set_patience(None)
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
