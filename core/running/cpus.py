"""How many CPUs, and hence threads, a process takes."""

import os
from collections.abc import Iterable


def available_cpus() -> int:
    """The CPUs that this process may use: what taskset, a container's cpuset or a scheduler leaves it."""
    return len(os.sched_getaffinity(0))


def share_of_cpus(own: Iterable[int], of_processes: Iterable[Iterable[int]]) -> int:
    """How many threads a process takes beside others on the same machine; at least 1.

    Args:
        own: CPUs that it may use.
        of_processes: those of every process, this one among them. A CPU that several may use is shared by them.
    """
    sets = [set(cpus) for cpus in of_processes]
    return max(1, int(sum(1 / sum(cpu in cpus for cpus in sets) for cpu in own) + 1e-6))
