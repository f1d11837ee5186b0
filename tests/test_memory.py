"""How the process gets its memory; each case in a process of its own, because it cannot be undone."""

import os
import subprocess
import sys

import pytest

from tests.helpers import HERE

SCRIPT = """
import resource
import numpy as np
from core.running.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20 // 8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
took_effect = {keep} and keep_freed_memory()
faults()
print(took_effect, sum(faults() for _ in range(3)))
"""


def faults(keep: bool) -> int:
    """Page faults of filling 64 MiB three times, after a first time."""
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.path.dirname(HERE))
    took_effect, count = result.stdout.split()
    if keep and took_effect == "False":
        pytest.skip("the C library is not glibc")
    return int(count)


def test_kept_memory_is_not_asked_for_again():
    kept, mapped_anew = faults(keep=True), faults(keep=False)  # how many depends on the size of pages
    assert mapped_anew > 50 and kept < mapped_anew / 4
