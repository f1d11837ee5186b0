"""What every entry script does first and last: arguments, distributed start, seeds, device, logging, errors."""

import argparse
import contextlib
import errno
import io
import json
import os
import random
import subprocess
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

from core.comm import PATIENCE_WITH_OTHERS
from core.config import load_config
from core.errors import RESUME_STATUS, Preempted, UserError
from core.failures import PATIENCE, FailureWatch, tell_first_process
from core.files import write_atomic, write_json
from core.memory import keep_freed_memory

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


def argument_parser(description: str, config_default: str | None = None) -> argparse.ArgumentParser:
    """The arguments that all scripts share."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="Any configuration key can be overridden: --optimizer.lr 0.1",
    )
    nargs = {} if config_default is None else {"nargs": "?", "default": config_default}
    parser.add_argument("config", metavar="CONFIG", help="YAML configuration", **nargs)  # type: ignore[arg-type]
    parser.add_argument(
        "--with",
        dest="overlays",
        metavar="FILE",
        action="append",
        default=[],
        help="a further YAML file laid over the configuration (may be given more than once)",
    )
    parser.add_argument("--non-dist", action="store_true", help="one process, whatever started it")
    return parser


def start(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, needs_device: bool = True) -> Run:
    """Parses arguments, starts the processes' communication, seeds, and sets up logging.

    With a `run_dir` among the arguments, the resolved configuration and the environment are saved in it.
    """
    own, overrides = split_overrides(parser, sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(own)
    expand_segments()
    config = load_config(arguments.config, arguments.overlays, overrides)
    device = _start_processes(arguments.non_dist, needs_device)
    run_dir = getattr(arguments, "run_dir", None)
    logs = os.path.join("runs" if run_dir is None else os.path.normpath(run_dir), "logging")
    if run_dir is not None:
        run_dir = os.path.normpath(run_dir)
        _open_run_dir(run_dir, config)
    elif not dist.is_master():
        logger.add(os.path.join(logs, f"{_stem()}-rank{dist.rank()}.log"), level="WARNING", delay=True)
    failures.folder = logs
    if dist.size() > 1 and dist.is_master():
        failures.watch = FailureWatch(logs)
    seed_everything(config.train.seed + dist.rank(), config.train.deterministic)
    if needs_device:
        prepare_device(device, config.train.tf32)
    return Run(config, arguments, run_dir, device)


def split_overrides(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts the command line into the script's own arguments and overrides of configuration keys with their values."""
    own: list[str] = []
    overrides: list[str] = []
    pieces = list(argv)
    while pieces:
        piece = pieces.pop(0)
        if not piece.startswith("--") or piece.split("=")[0] in parser._option_string_actions:
            own.append(piece)
            continue
        overrides.append(piece)
        if "=" not in piece and pieces and not pieces[0].startswith("--"):
            overrides.append(pieces.pop(0))
    return own, overrides


@dataclass
class _Failures:
    """Where processes tell the first one of their errors, and what shows them there."""

    folder: str | None = None
    watch: FailureWatch | None = None


failures = _Failures()


def run_main(main: Callable[[], None]) -> None:
    """Runs an entry script's main function; a UserError becomes one line and exit status 2, a request to stop (see
    core/preemption.py) one line and exit status 75.

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
            if failures.watch is None or not failures.watch.shown.wait(PATIENCE):
                logger.error("Another process ended first; its log in RUN/logging (or runs/logging) says why.")
        else:
            logger.exception(f"Process {dist.rank()} failed.")
            _tell(traceback.format_exc())
        _leave(1)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


@contextlib.contextmanager
def _told_of_the_disk() -> Iterator[None]:
    """Makes a UserError of a disk that is full or not to be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK:
            raise
        what = f"{error.filename or 'a file'}: cannot be read or written ({error.strerror})"
        raise UserError(f"{what}; make room or choose another path, and run the same command again") from error


def _tell(message: str) -> None:
    if dist.rank() > 0 and failures.folder is not None:
        with contextlib.suppress(OSError):
            tell_first_process(failures.folder, message)


def _leave(status: int) -> None:
    """Ends this process after an error. Under dist-run at once: MPI's own clean-up would wait for the other processes,
    while mpirun ends them as soon as one is gone."""
    if dist.size() > 1:
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
    core/precision.py); how memory is handled on a CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if device.type == "cpu":
        keep_freed_memory()


def _start_processes(non_dist: bool, needs_device: bool) -> torch.device:
    launched = "MASTER_HOST" in os.environ and "OMPI_COMM_WORLD_SIZE" in os.environ
    use_cuda = needs_device and torch.cuda.is_available()
    if launched and not non_dist:
        local_rank, local_size = (int(os.environ[f"OMPI_COMM_WORLD_LOCAL_{key}"]) for key in ("RANK", "SIZE"))
        if use_cuda:
            if local_size > torch.cuda.device_count():
                raise UserError(
                    f"{local_size} processes on this machine but {torch.cuda.device_count()} GPUs: lower -np, or show "
                    "more GPUs with CUDA_VISIBLE_DEVICES"
                )
            torch.cuda.set_device(local_rank)
        else:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // local_size))
        dist.init(backend="nccl" if use_cuda else "gloo", timeout=PATIENCE_WITH_OTHERS)
    if not dist.is_master():
        logger.remove()  # silent on the console; the run directory's log follows
    return torch.device("cuda", torch.cuda.current_device()) if use_cuda else torch.device("cpu")


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


def environment() -> dict[str, object]:
    """What a result depends on besides its configuration: command, code, versions, hardware."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": sys.argv,
        "git": _git("rev-parse", "HEAD") or None,
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gpu": cuda,
        "cpus": os.cpu_count(),
        "processes": dist.size(),
    }


def _git(*arguments: str) -> str:
    """What git says of the code's folder; nothing where there is no git or no repository."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        result = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return result.stdout.strip()
