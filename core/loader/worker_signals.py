"""When loader processes end: with training, and not before.

A scheduler sends the signals that ask training to stop to every process of a job, but the step that is under way, and
the checkpoint after it, need the loader. Where training is killed, nobody tells its loader processes: they watch it.
"""

import multiprocessing
import os
import signal
import threading

GRACE = 60
"""Seconds that a loader process lives on after SIGTERM, if nobody ends it sooner."""


def follow_training(worker: int) -> None:
    """Sets up a loader process."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))  # SIGALRM ends it
    threading.Thread(target=_end_with_training, daemon=True).start()


def _end_with_training() -> None:
    """PyTorch's own watch looks at the system's parent, which is the server that loader processes are made from."""
    training = multiprocessing.parent_process()
    if training is not None:
        training.join()
        os._exit(1)


def end_children() -> None:
    """Ends this process's loader processes at once; left to Python's shutdown, they live through their GRACE."""
    children = multiprocessing.active_children()
    if children:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would make an error of their end
    for child in children:
        child.kill()
