"""What files Python opens and which folders it lists, told by its audit events."""

import os
import sys
from collections import Counter
from contextlib import contextmanager

_LISTING = ("os.listdir", "os.scandir", "glob.glob")
_watched: list[tuple[str, Counter]] = []


def _hear(event, arguments):
    for folder, counts in _watched:
        if event in ("open", *_LISTING) and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            if path.startswith(folder):
                counts["listed" if event in _LISTING else os.path.basename(path)] += 1


sys.addaudithook(_hear)  # there is no taking it off again


@contextmanager
def watched(folder):
    """Counts, below `folder`: how often each file's name is opened, and under "listed" how often folders are listed."""
    counts: Counter = Counter()
    _watched.append((os.path.abspath(folder), counts))
    try:
        yield counts
    finally:
        _watched.pop()
