"""Who is waited for: processes that work together tell each other how far they are.

Every process counts the places at which all of them pass (`mark`): each thing they do together, each training step. A
thread publishes the count, and the line of code that the process is at, in the store through which the processes found
each other. A process that waits long names those that are behind it; in training it gives up after a time.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torchpack.utils.logging import logger

PERIOD = 5.0
"""Seconds between two looks at the others."""
FIRST_NOTICE = 60.0
"""Seconds of waiting after which the others are named; again after twice the time, and so on."""
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclass
class _Progress:
    """How far this process is.

    Attributes:
        count: places passed.
        since: when the last one was passed, monotonic seconds.
        patience: seconds after which a process that passes none gives up; None: never.
    """

    count: int = 0
    since: float = field(default_factory=time.monotonic)
    patience: float | None = None


progress = _Progress()


def mark() -> None:
    """Says that this process passed a place which all of them pass, equally often."""
    progress.count += 1
    progress.since = time.monotonic()


def set_patience(seconds: float | None) -> None:
    """From here on a process that passes no place for so long ends the command; None: it waits on."""
    progress.patience = seconds
    progress.since = time.monotonic()


class StallWatch:
    """Tells the others how far this process is, and names those that it waits for.

    Args:
        store: a connection of its own to the processes' store.
        rank, size: among the processes.
        give_up: called, in a thread, with what is wrong when the patience is over.
    """

    def __init__(self, store: Any, rank: int, size: int, give_up: Callable[[str], None]):
        self.store, self.rank, self.size, self.give_up = store, rank, size, give_up
        self.main_thread = threading.main_thread().ident
        self.others: dict[int, dict[str, Any]] = {}
        self.read_at = time.monotonic()
        self.notice = FIRST_NOTICE
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._exchange, self._watch)]

    def start(self) -> None:
        """Watches from now on."""
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads: one that is in the store's code when Python shuts down would abort the process."""
        self.ended.set()
        for thread in self.threads:
            thread.join(PERIOD)

    def _exchange(self) -> None:
        """In a thread of its own: the store does not answer while the first process is stopped."""
        try:
            while not self.ended.is_set():
                self.exchange()
                self.ended.wait(PERIOD)
        except (RuntimeError, OSError):
            return  # the first process has ended

    def exchange(self) -> None:
        """Publishes this process's place and reads the others'."""
        own = {"count": progress.count, "at": self._place(), "host": socket.gethostname(), "pid": os.getpid()}
        self.store.set(str(self.rank), json.dumps({**own, "time": time.time()}))
        keys = {rank: str(rank) for rank in range(self.size) if self.store.check([str(rank)])}
        self.others = {rank: json.loads(self.store.get(key)) for rank, key in keys.items()}
        self.read_at = time.monotonic()

    def _place(self) -> str:
        """The innermost line of the project's code that the main thread is at."""
        frame = sys._current_frames().get(self.main_thread or 0)
        while frame is not None:
            path = frame.f_code.co_filename
            if path.startswith(_ROOT + os.sep) and os.sep + "site-packages" + os.sep not in path:
                return f"{os.path.relpath(path, _ROOT)}:{frame.f_lineno}, {frame.f_code.co_name}"
            frame = frame.f_back
        return "an unknown place"

    def _watch(self) -> None:
        while not self.ended.wait(min(PERIOD, (progress.patience or PERIOD) / 4)):
            self.look(time.monotonic() - progress.since)

    def look(self, waited: float) -> None:
        """Says who is waited for after `waited` seconds without progress, or gives up."""
        if waited < FIRST_NOTICE:
            self.notice = FIRST_NOTICE
        # the first process shows what is wrong; the others, whose console is silent, leave it the time for it
        if progress.patience is not None and waited > progress.patience + (PERIOD if self.rank else 0):
            who = self.waited_for() or f"nobody in particular: {self._all_places()}"
            self.give_up(
                f"No process came on for {waited / 60:.0f} minutes (train.patience); this one waits for {who}. Look at "
                "its machine, disk and log; the same command goes on from the last checkpoint."
            )
        elif waited >= self.notice:
            who = self.waited_for()
            if who:
                logger.warning(f"Waiting for {who}, for {waited / 60:.0f} min so far.")
            self.notice = 2 * waited

    def waited_for(self) -> str:
        """The processes that passed fewer places than this one, or say nothing any more; empty where there are none."""
        if time.monotonic() - self.read_at > 6 * PERIOD:
            return "process 0, through which the processes talk and which does not answer"
        now = max((other["time"] for other in self.others.values()), default=0.0)
        names = []
        for rank, other in self.others.items():
            silent = now - other["time"]
            if rank != self.rank and (other["count"] < progress.count or silent > 6 * PERIOD):
                stopped = f", silent for {silent:.0f} s" if silent > 6 * PERIOD else ""
                names.append(f"process {rank} ({other['host']}, pid {other['pid']}, at {other['at']}{stopped})")
        return "; ".join(names)

    def _all_places(self) -> str:
        return "; ".join(f"process {rank} is at {other['at']}" for rank, other in self.others.items())
