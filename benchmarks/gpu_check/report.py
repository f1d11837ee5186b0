"""The answers as tables and as a file."""

import json
import os
from typing import Any

from benchmarks.common import machine, table
from core.running.environment import environment
from core.running.files import write_json

TITLES = {
    "1": "Tests on the device",
    "2": "Sparse layers",
    "3": "Training step (batch 4, 25 000 voxels a frame, 360x640, cr 0.64)",
    "4": "Commands on a city at nuScenes' sizes",
    "5": "Killed and resumed; NCCL",
}


def report(entries: dict[str, Any]) -> str:
    """A table for the answers of each part that have the same figures."""
    lines = [machine()]
    for number, entry in entries.items():
        lines.append(f"\n{number}. {TITLES[number]}: {entry['status']}, {entry['seconds']:.0f} s\n")
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for answer in entry["answers"]:
            figures = {name: str(value) for name, value in answer["values"].items() if not isinstance(value, list)}
            row = {"what": answer["what"], **figures, "wrong": answer["wrong"].replace("|", "/")[:120]}
            groups.setdefault(tuple(row), []).append(row)
        lines += [table(rows) + "\n" for rows in groups.values()]
    return "\n".join(lines)


def write_report(path: str, entries: dict[str, Any], problems: list[str]) -> None:
    """Writes gpu_check.json: machine, environment, parts with their answers, what is wrong."""
    write_json(path, json.loads(json.dumps({"machine": machine(), **_context(), "parts": entries, "wrong": problems})))


_kept: dict[str, Any] = {}


def _context() -> dict[str, Any]:
    """Versions, asked once."""
    if not _kept:
        import numba
        import scipy

        _kept.update(environment=environment(), numba=numba.__version__, scipy=scipy.__version__, folder=os.getcwd())
    return _kept
