"""Loader processes outlive the signals that ask training to stop: a scheduler sends them to every process of a job, and
the step that is under way, and the checkpoint after it, need the loader."""

import signal

GRACE = 60
"""Seconds that a loader process lives on after SIGTERM, if nobody ends it sooner."""


def outlive_requests(worker: int) -> None:
    """Sets up a loader process."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))  # SIGALRM ends it
