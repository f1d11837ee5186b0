"""Commands in forks of this process, so that many short-lived ones cost no start of Python each.

The process that forks must have run no tensor operation, or its threads' locks would be copied.
"""

import contextlib
import importlib
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.utils.tensorboard  # noqa: F401 (what commands import is imported once, here)
from torchpack.distributed import context
from torchpack.utils.logging import logger

import core.running.runtime
import core.steps


class Command:
    """An entry script in one or two forks, as ranks of one group; reports what it is doing.

    Args:
        script, words: module of the entry script, and its arguments.
        ranks: number of processes.
        prepare: run in each fork first; gets a function to call with each event's name.
        log: file that the output is appended to.
    """

    def __init__(self, script: str, words: list, ranks: int, prepare: Callable, log: str):
        self.read, write = os.pipe()
        meeting = tempfile.mktemp(prefix="meeting-")  # noqa: S306 (gloo makes the file)
        self.pids = [_fork(script, words, rank, ranks, prepare, log, write, meeting) for rank in range(ranks)]
        os.close(write)
        self.events: list[str] = []

    def wait_for(self, event: str, count: int, timeout: float = 120) -> bool:
        """Until the event has come so many times; False where the command ended before."""
        end = time.monotonic() + timeout
        while sum(name == event for name in self.events) < count:
            if not self._take(end - time.monotonic()):
                return False
        return True

    def _take(self, timeout: float) -> bool:
        ready, _, _ = select.select([self.read], [], [], max(timeout, 0))
        data = os.read(self.read, 4096) if ready else b""
        self.events += data.decode().split()
        return bool(data)

    def kill(self, rank: int = 0) -> list[int]:
        """SIGKILL to one rank; then, as the launcher would, to the others. Their exit statuses."""
        for pid in [self.pids[rank], *self.pids]:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        return self.statuses()

    def statuses(self) -> list[int]:
        """Waits until all have ended; negative: ended by that signal."""
        while self._take(300):
            pass
        os.close(self.read)
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]


def before(owner, name: str, call: Callable) -> None:
    """Has a function of a module or class call another one first."""
    function = getattr(owner, name)

    def wrapped(*arguments, **options):
        call()
        return function(*arguments, **options)

    setattr(owner, name, wrapped)


def _fork(
    script: str, words: list, rank: int, ranks: int, prepare: Callable, log: str, write: int, meeting: str
) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        logger.remove()
        logger.add(sys.stderr)
        torch.set_num_threads(1)
        if ranks > 1:
            core.running.runtime.start_processes = lambda *_: _join(rank, ranks, meeting)
        prepare(lambda event: os.write(write, f"{event}\n".encode()) if rank == 0 else None)
        sys.argv = [f"{script}.py", *map(str, words)]
        core.running.runtime.run_main(importlib.import_module(script).main)
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os._exit(status)


def _join(rank: int, ranks: int, meeting: str) -> torch.device:
    context._world_size, context._world_rank = ranks, rank
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks)
    return torch.device("cpu")
