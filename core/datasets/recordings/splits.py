"""Which frames of which recordings are in a split: `NAME`, or `NAME[BEGIN:END]` for a part of the time."""

import fnmatch
import re
from collections.abc import Mapping, Sequence

import numpy as np

from core.datasets.recordings.recording import Recording
from core.errors import UserError

SPLITS = ("train", "val", "test")
_ENTRY = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<begin>[^:\[\]]*):(?P<end>[^:\[\]]*)\])?")


def frames_of_split(
    splits: Mapping[str, Sequence[str]], split: str, recordings: Mapping[str, Recording]
) -> list[tuple[str, int]]:
    """(recording, position of the cloud) of each frame in a split, in order.

    Args:
        splits: for each split a list of entries: a recording's name or pattern ("*"), and after it, in brackets, a
            part: frames ("0:24"), per cent of the frames ("0%:70%") or seconds from the start ("0s:12.5s"); the end is
            exclusive, and either may be left out.
    Raises UserError: an entry is none or names no recording, or a frame is in training and in validation.
    """
    chosen = {name: _frames(splits, name, recordings) for name in SPLITS}
    both = sorted(set(chosen["train"]) & set(chosen["val"]))
    if both:
        name, index = both[0]
        raise UserError(
            f"dataset.splits: {len(both)} frames are in train and in val, the first is frame {index} of {name}; part "
            "them, with a gap between"
        )
    return chosen[split]


def _frames(
    splits: Mapping[str, Sequence[str]], split: str, recordings: Mapping[str, Recording]
) -> list[tuple[str, int]]:
    found: dict[tuple[str, int], None] = {}
    entries = splits.get(split) or []
    for entry in [entries] if isinstance(entries, str) else entries:
        match = _ENTRY.fullmatch(str(entry))
        key = f"dataset.splits.{split}: '{entry}'"
        if match is None:
            raise UserError(f"{key} is none of NAME, NAME[0:24], NAME[0%:70%], NAME[0s:12.5s]; mend it")
        names = fnmatch.filter(recordings, match["name"])
        if not names:
            raise UserError(f"{key} names no recording; there are: {', '.join(list(recordings)[:10])}")
        for name in names:
            found.update(dict.fromkeys((name, i) for i in _part(key, recordings[name], match["begin"], match["end"])))
    order = {name: k for k, name in enumerate(recordings)}
    return sorted(found, key=lambda frame: (order[frame[0]], frame[1]))


def _part(key: str, recording: Recording, begin: str | None, end: str | None) -> Sequence[int]:
    count = len(recording.stems)
    if begin is None or end is None:
        return range(count)
    units = {text[-1] if text[-1] in "%s" else "" for text in (begin.strip(), end.strip()) if text}
    try:
        low, high = (float(text.strip().rstrip("%s")) if text.strip() else None for text in (begin, end))
    except ValueError:
        units = {"?", "??"}
    if len(units) > 1:
        raise UserError(f"{key}: expected two numbers of one unit in brackets, as 0:24, 0%:70% or 0s:12.5s; mend it")
    unit = units.pop() if units else ""
    value = {"": np.arange(count), "%": 100 * np.arange(count) / max(count, 1), "s": recording.seconds}[unit]
    inside = (value >= (-np.inf if low is None else low)) & (value < (np.inf if high is None else high))
    return np.flatnonzero(inside).tolist()
