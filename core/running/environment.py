"""What a result depends on besides its configuration."""

import os
import subprocess
import sys

import numpy as np
import torch
from torchpack import distributed as dist

from core.running.cpus import available_cpus


def environment() -> dict[str, object]:
    """What a result depends on besides its configuration: command, code, versions, hardware; None where not known."""
    changes = _git("status", "--porcelain")
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "command": sys.argv,
        "git": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gpu": cuda,
        "cpus": available_cpus(),
        "processes": dist.size(),
    }


def _git(*arguments: str) -> str | None:
    """What git says of the code's folder; None where there is no git or no repository, or git refuses it."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        result = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
