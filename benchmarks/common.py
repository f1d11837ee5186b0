"""What the benchmarks share: the machine's description, tables, functions timed in turn."""

import os
import platform
import time
from collections.abc import Callable

import torch


def machine() -> str:
    """One line: processor, cores, memory, GPU, versions of Python and PyTorch."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [_processor(), f"{os.cpu_count()} cores", f"{memory:.0f} GiB"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"Python {platform.python_version()}", f"PyTorch {torch.__version__}"])


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table; the first row's keys are the columns."""
    columns = list(rows[0])
    lines = [columns, *([row[column] for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def alternate(
    functions: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Seconds of each call, the functions called in turn, so that all of them meet the machine in the same moods.

    A first call of each goes uncounted. The default clock counts CPU seconds of this process: right for one thread, and
    blind to other processes. Give `time.perf_counter` for work on several threads.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = clock()
            function()
            if repeat:
                seconds[name].append(clock() - start)
    return seconds
