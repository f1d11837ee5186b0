"""Running a job on many items, in this process or in several.

Not by joblib: a job with its reader is large and travels to each worker once, by the pool's initializer; joblib sends
it with every batch, and its workers outlive the loop.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol

from core.errors import UserError


class Work(Protocol):
    """What is done with single items; travels to worker processes.

    Attributes:
        directory: where its files go.
    """

    directory: str

    def check_packages(self) -> Any:
        """Raises UserError where an optional package is missing."""

    def make(self, index: int) -> bool:
        """Makes the files of item `index` that are not there and whole yet; False where there was nothing to do."""


def make_all(job: Work, indices: Sequence[int], num_workers: int) -> Iterator[bool]:
    """Runs `job.make` on each index, in this process or in workers; yields in order whether it had to be made."""
    if num_workers == 0 or len(indices) == 0:
        yield from map(job.make, indices)
        return
    # fresh processes: forked ones would inherit the locks of threads that MPI, OpenMP or the GPU's driver run here
    pool = ProcessPoolExecutor(num_workers, get_context("spawn"), initializer=_start_worker, initargs=(job,))
    try:
        yield from pool.map(_make_one, indices, chunksize=max(1, min(4, len(indices) // (4 * num_workers))))
    except BrokenProcessPool as error:
        raise UserError(
            f"{job.directory}: a worker process died, for want of memory perhaps; "
            "run the command again with fewer workers: it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker_job: Work | None = None


def _start_worker(job: Work) -> None:
    global _worker_job
    _worker_job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process alone answers Ctrl-C
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for Open3D: the workers share the cores already
    job.check_packages()


def _make_one(index: int) -> bool:
    assert _worker_job is not None
    return _worker_job.make(index)
