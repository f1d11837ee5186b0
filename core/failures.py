"""Errors of other processes than the first, shown by the first: `torchpack dist-run` hides all other output.

A failing process leaves its message in a file beside the logs; the first one looks for such files in a thread, shows
them and takes them away. The file system of the run directory is all that they need to share.
"""

import glob
import os
import re
import threading
import time

from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core.files import write_atomic

PATIENCE = 5.0
"""Seconds that a failing process waits for the first one to show its message."""
_PERIOD = 0.2


def _stem(folder: str) -> str:
    """Beginning of the paths of this launch's messages: the address at which its processes meet is its own."""
    launch = re.sub(r"\W", "-", os.environ.get("MASTER_HOST", ""))
    return os.path.join(folder, f".failed-{launch}-rank")


def tell_first_process(folder: str, message: str) -> None:
    """Hands a message over to the first process, and waits until it is shown, but not for long."""
    path = f"{_stem(folder)}{dist.rank()}"
    with write_atomic(path) as file:
        file.write(message.encode())
    end = time.monotonic() + PATIENCE
    while os.path.exists(path) and time.monotonic() < end:
        time.sleep(_PERIOD)


class FailureWatch:
    """Shows what the others hand over; in the first process.

    Args:
        folder: where the messages come.
    """

    def __init__(self, folder: str):
        self.folder, self.shown = folder, threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.show()
            time.sleep(_PERIOD)

    def show(self) -> None:
        """Shows what has come."""
        stem = _stem(self.folder)
        for path in sorted(glob.glob(glob.escape(stem) + "*")):
            try:
                with open(path, encoding="utf-8") as file:
                    message = file.read()
                os.remove(path)
            except OSError:
                continue
            logger.error(f"Process {path.removeprefix(stem)} failed: {message}")
            self.shown.set()
