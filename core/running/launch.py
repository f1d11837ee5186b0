"""Which launcher started this process, and where its processes meet: from environment variables alone.

Understood are torchrun (and whoever sets the same variables), Open MPI (`torchpack dist-run`, `mpirun`) and Slurm's
`srun`. Where two have left their variables, the inner one counts.
"""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import UserError

UNDERSTOOD = "torchpack dist-run, torchrun, srun, Open MPI's mpirun"
SIZES = (
    "WORLD_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
    "PMI_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "JSM_NAMESPACE_SIZE",
    "FLUX_JOB_SIZE",
)
"""Variables by which launchers, understood or not, say how many processes they started."""
_PORTS = range(15000, 32000)  # below those that systems hand out to clients


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    Attributes:
        rank, size: among all processes.
        local_rank, local_size: among those on this machine.
        address: "host:port" where they meet; unique among the launches that run at the same time.
        by_variables: the address stands in MASTER_ADDR and MASTER_PORT, and torchrun may be listening there itself.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    by_variables: bool = False

    @property
    def url(self) -> str:
        """The address as PyTorch takes it."""
        return "env://" if self.by_variables else f"tcp://{self.address}"


def read_launch(environ: Mapping[str, str] = os.environ) -> Launch:
    """What the launcher says; a single process where there is none.

    Raises UserError where several processes were started, but not by a launcher that is understood: each would believe
    to be alone.
    """
    if "RANK" in environ and "TORCHELASTIC_RUN_ID" in environ:
        return _torchrun(environ)
    if "OMPI_COMM_WORLD_RANK" in environ:
        return _open_mpi(environ)
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environ.keys():
        return _torchrun(environ)
    if "SLURM_PROCID" in environ and "SLURM_STEP_NUM_TASKS" in environ:  # the second is srun's alone
        return _srun(environ)
    for name in SIZES:
        if environ.get(name, "1").strip() not in ("", "0", "1"):
            raise UserError(
                f"{name}: {environ[name]} processes were started, but by none of the launchers that are understood "
                f"({UNDERSTOOD}); start the command by one of these, or one process with --non-dist"
            )
    return Launch()


def _torchrun(environ: Mapping[str, str]) -> Launch:
    address = f"{environ.get('MASTER_ADDR', '')}:{environ.get('MASTER_PORT', '')}"
    rank, size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    local = _number(environ, "LOCAL_RANK", "0"), _number(environ, "LOCAL_WORLD_SIZE", "1")
    return Launch(rank, size, *local, address, by_variables=True)


def _open_mpi(environ: Mapping[str, str]) -> Launch:
    rank, size, local_rank, local_size = (
        _number(environ, f"OMPI_COMM_WORLD_{name}") for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")
    )
    address = environ.get("MASTER_HOST")  # dist-run's
    if address is None:
        host = environ.get("MASTER_ADDR", "127.0.0.1" if local_size == size else None)
        if host is None:
            raise UserError(
                "MASTER_ADDR: not set, and mpirun started processes on several machines; name the first one's "
                "(-x MASTER_ADDR=HOST), or use torchpack dist-run"
            )
        job = environ.get("PMIX_NAMESPACE") or environ.get("OMPI_MCA_ess_base_jobid", "")
        address = f"{host}:{environ.get('MASTER_PORT') or _port('mpirun', job)}"
    return Launch(rank, size, local_rank, local_size, address)


def _srun(environ: Mapping[str, str]) -> Launch:
    host = environ.get("MASTER_ADDR") or first_host(environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    port = environ.get("MASTER_PORT") or _port("srun", environ.get("SLURM_JOB_ID"), environ.get("SLURM_STEP_ID"))
    tasks = tasks_per_node(environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
    node = _number(environ, "SLURM_NODEID", "0")
    local = _number(environ, "SLURM_LOCALID", "0"), tasks[node] if node < len(tasks) else 1
    return Launch(_number(environ, "SLURM_PROCID"), _number(environ, "SLURM_STEP_NUM_TASKS"), *local, f"{host}:{port}")


def first_host(nodes: str) -> str:
    """The first name of Slurm's list: "gpu[03-05,09],big1" -> "gpu03"."""
    match = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(filter(None, match.groups())) if match else nodes


def tasks_per_node(text: str) -> list[int]:
    """Slurm's counts: "2(x3),1" -> [2, 2, 2, 1]."""
    counts: list[int] = []
    for tasks, _, times in re.findall(r"(\d+)(\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(times or 1)
    return counts


def _port(*names: str | None) -> int:
    """The same port in all processes of a launch, and most likely another one in another launch."""
    return _PORTS[zlib.crc32("/".join(map(str, names)).encode()) % len(_PORTS)]


def _number(environ: Mapping[str, str], name: str, default: str | None = None) -> int:
    text = environ.get(name, default)
    try:
        return int(text or "")
    except ValueError:
        raise UserError(
            f"{name}: {'not set' if text is None else repr(text)}, expected a number from the launcher; start the "
            f"command by one of: {UNDERSTOOD}"
        ) from None
