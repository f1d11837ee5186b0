"""What every entry script does first and last: distributed start, seeds, device, logging, errors."""

import argparse
import contextlib
import errno
import io
import json
import multiprocessing.util
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import yaml
from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.errors import RESUME_STATUS, Preempted, UserError
from core.loader.worker_signals import end_children
from core.running.arguments import split_overrides
from core.running.config import load_config
from core.running.environment import environment
from core.running.failures import PATIENCE, FailureBoard
from core.running.files import write_atomic, write_json
from core.running.launch import Launch, read_launch
from core.running.memory import keep_freed_memory
from core.running.processes import introduce, leave_group, start_processes

# torchpack's callbacks pull in tensorpack, which prints "Failed to import tensorflow." when first imported
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(ImportError):
    import tensorpack  # noqa: F401


@dataclass
class Run:
    """One call of an entry script.

    Attributes:
        config: the resolved configuration.
        arguments: the script's own arguments.
        run_dir: where results go, or None for scripts without one.
        device: where the network runs.
    """

    config: Config
    arguments: argparse.Namespace
    run_dir: str | None
    device: torch.device


def start(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, needs_device: bool = True) -> Run:
    """Parses arguments, starts the processes' communication, seeds, and sets up logging.

    With a `run_dir` among the arguments, the resolved configuration and the environment are saved in it.
    """
    global _board
    own, overrides = split_overrides(parser, sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(own)
    expand_segments()
    launch = Launch() if arguments.non_dist else read_launch()
    introduce(launch)
    if launch.rank > 0:
        logger.remove()  # silent on the console; the run directory's log follows
    config = load_config(arguments.config, arguments.overlays, overrides)
    run_dir = getattr(arguments, "run_dir", None)
    logs = os.path.join("runs" if run_dir is None else os.path.normpath(run_dir), "logging")
    _board = FailureBoard(logs, launch.address)
    if launch.size > 1 and launch.rank == 0:
        _board.watch()
    device = start_processes(launch, needs_device, _give_up)
    if run_dir is not None:
        run_dir = os.path.normpath(run_dir)
        _open_run_dir(run_dir, config)
    elif not dist.is_master():
        logger.add(os.path.join(logs, f"{_stem()}-rank{dist.rank()}.log"), level="WARNING", delay=True)
    seed_everything(config.train.seed + dist.rank(), config.train.deterministic)
    if needs_device:
        prepare_device(device, config.train.tf32)
    return Run(config, arguments, run_dir, device)


_board: FailureBoard | None = None  # where processes tell the first one of their errors


def run_main(main: Callable[[], None]) -> None:
    """Runs an entry script's main function; a UserError becomes one line and exit status 2, a request to stop (see
    core/training/preemption.py) one line and exit status 75.

    Every process writes its error to its log; under dist-run the first one shows the errors of the others, too.
    """
    try:
        with _told_of_the_disk():
            main()
    except UserError as error:
        logger.error(_message(error))
        if dist.rank() > 0:
            time.sleep(2)  # most often the first process has the same error, and its exit ends this one
        _tell(_message(error))
        _leave(2)
    except Preempted as request:
        logger.info(str(request))
        _leave(RESUME_STATUS)
    except KeyboardInterrupt:
        _leave(130)
    except Exception as error:
        if dist.size() > 1 and _is_lost_connection(error):
            if _board is None or dist.rank() > 0 or not _board.shown.wait(PATIENCE):
                logger.error("Another process ended first; its log in RUN/logging (or runs/logging) says why.")
        else:
            logger.exception(f"Process {dist.rank()} failed.")
            _tell(traceback.format_exc())
        _leave(1)
    if dist.size() > 1:
        leave_group()
        _leave(0)
    end_children()


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def _told_of_the_disk() -> Iterator[None]:
    """Makes a UserError of a disk that is full or not to be written, and of too few file descriptors."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if os.strerror(errno.EMFILE) in str(error):  # in loader processes, too, whose errors lose their number
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            raise UserError(
                f"ulimit -n: {limit} open files are too few; raise it (ulimit -n 1024), or lower workers_per_gpu"
            ) from error
        if not isinstance(error, OSError) or error.errno not in _DISK:
            raise
        what = f"{error.filename or 'a file'}: cannot be read or written ({error.strerror})"
        raise UserError(f"{what}; make room or choose another path, and run the same command again") from error


def _tell(message: str) -> None:
    if dist.rank() > 0 and _board is not None:
        with contextlib.suppress(OSError):
            _board.tell(message)


def _give_up(message: str) -> None:
    """Ends a process whose main thread waits for others that do not come."""
    logger.error(message)
    _tell(message)
    os._exit(1)


def _leave(status: int) -> None:
    """Ends this process. One of several skips Python's own shutdown, in which threads of gloo and NCCL abort it now and
    then."""
    end_children()
    if dist.size() > 1:
        multiprocessing.util._exit_function()  # type: ignore[attr-defined]  # removes its temporary folder
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _is_lost_connection(error: Exception) -> bool:
    """Whether the error only says that another process is gone."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error) and "onnection" in str(error)
    )


def _message(error: UserError) -> str:
    """The error's one line; a loader process wraps it in a traceback, of which it is the last one."""
    return str(error).rstrip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")


def seed_everything(seed: int, deterministic: bool) -> None:
    """Seeds Python, NumPy and PyTorch; `deterministic` makes PyTorch refuse algorithms that are not."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries draw from the global generator)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    elif torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True


def expand_segments() -> None:
    """Lets PyTorch's allocator grow its segments on a GPU, so that batches of ever other sizes do not split its memory
    into pieces; before CUDA starts. What the user has set of the allocator stays."""
    if not any(name in os.environ for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")):
        # every version reads this name; the newer one does nothing in PyTorch 2.9
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


def prepare_device(device: torch.device, tf32: bool) -> None:
    """Precision of float32 products in training on a GPU (E-steps and evaluations have their own, see
    core/training/precision.py); how memory is handled on a CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cpu":
        keep_freed_memory()


def _open_run_dir(run_dir: str, config: Config) -> None:
    stem = _stem()
    try:
        os.makedirs(os.path.join(run_dir, "logging"), exist_ok=True)
        logger.add(
            os.path.join(run_dir, "logging", f"{stem}-rank{dist.rank()}.log"),
            format="{time:YYYY-MM-DD HH:mm:ss} {level} {message}",
        )
        if dist.is_master():
            with write_atomic(os.path.join(run_dir, "metainfo", f"{stem}.yaml")) as file:
                file.write(yaml.safe_dump(json.loads(json.dumps(config.dict())), sort_keys=False).encode())
            write_json(os.path.join(run_dir, "metainfo", f"{stem}.json"), environment())
    except OSError as error:
        raise UserError(f"{run_dir}: cannot be made or written ({error.strerror}); choose another --run-dir") from None


def _stem() -> str:
    """Beginning of the names of this call's files: time and script."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.path.splitext(os.path.basename(sys.argv[0]))[0]}"
