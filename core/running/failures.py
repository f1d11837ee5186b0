"""Errors of other processes than the first, shown by the first: the others' console is silent.

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

from core.running.files import write_atomic

PATIENCE = 5.0
"""Seconds that a failing process waits for the first one to show its message."""
_PERIOD = 0.2


class FailureBoard:
    """Where the processes of one launch leave their messages.

    Args:
        folder: that of the logs.
        launch: what tells this launch from others in the same folder: the address at which its processes meet.

    Attributes:
        shown: a message was, here.
    """

    def __init__(self, folder: str, launch: str):
        name = re.sub(r"\W", "-", launch)
        self.stem, self.shown = os.path.join(folder, f".failed-{name}-rank"), threading.Event()

    def tell(self, message: str) -> None:
        """Hands a message over to the first process, and waits until it is shown, but not for long."""
        path = f"{self.stem}{dist.rank()}"
        with write_atomic(path) as file:
            file.write(message.encode())
        end = time.monotonic() + PATIENCE
        while os.path.exists(path) and time.monotonic() < end:
            time.sleep(_PERIOD)

    def watch(self) -> None:
        """Shows from now on, in a thread, what the others hand over; in the first process."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self._show()
            time.sleep(_PERIOD)

    def _show(self) -> None:
        for path in sorted(glob.glob(glob.escape(self.stem) + "*")):
            try:
                with open(path, encoding="utf-8") as file:
                    message = file.read()
                os.remove(path)
            except OSError:
                continue
            logger.error(f"Process {path.removeprefix(self.stem)} failed: {message}")
            self.shown.set()
