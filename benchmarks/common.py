"""What the benchmarks share: the machine in words, tables, timing by turns."""

import os
import platform
import time
from collections.abc import Callable


def machine() -> str:
    """The processor and the versions that timings depend on, in one line."""
    import numba
    import numpy
    import torch

    parts = [f"{_processor()}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    parts += [f"{module.__name__} {module.__version__}" for module in (numpy, numba, torch)]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def table(rows: list[dict[str, str]]) -> str:
    """A Markdown table of rows with the same keys, which are its head; the first column is text, the rest numbers."""
    head = list(rows[0])
    widths = [max(len(text) for text in (name, *(row[name] for row in rows))) for name in head]
    lines = ["| " + " | ".join(_pad(head, widths)) + " |"]
    lines.append("|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|")
    lines += ["| " + " | ".join(_pad([row[name] for name in head], widths)) + " |" for row in rows]
    return "\n".join(lines)


def alternate(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each call by function, called in turn, so that a busy machine slows all of them alike.

    The first call of each is not counted: it compiles and fills caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            started = time.process_time()
            function()
            if turn > 0:
                seconds[name].append(time.process_time() - started)
    return seconds


def _pad(texts: list[str], widths: list[int]) -> list[str]:
    return [text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(texts, widths, strict=True))]


def _processor() -> str:
    """The processor's name as Linux tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
