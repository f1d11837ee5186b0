"""Which frames are shown: those with the most to see."""

from collections.abc import Iterator
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from core.figures.sources import Missing, Scan, Sources
from core.label_files.files import ANNOTATED_IGNORED, WeakLabel

T = TypeVar("T")
CLEARLY_SEEN = 15
"""Points from which on a class counts as seen in an image."""


@cache
def most_classes(sources: Sources) -> tuple[Scan, int, NDArray[np.uint8]]:
    """The predicted frame and the camera that sees the most classes clearly, and of these the most small things' points
    (all but those of the largest thing class in it); with the frame's ground truth."""
    things = np.array(sources.reader("val").classes.things)

    def candidates() -> Iterator[tuple[tuple[int, int], tuple[Scan, int, NDArray[np.uint8]]]]:
        for frame in sources.predicted_frames():
            scan = sources.scan("val", frame)
            truth = sources.dense("val", scan)
            if truth is None:
                continue
            for camera in range(len(frame.cameras)):
                counts = np.bincount(truth[scan.projection.camera == camera], minlength=256)
                small_things = int(counts[things].sum() - counts[things].max())
                yield (int((counts[1:] >= CLEARLY_SEEN).sum()), small_things), (scan, camera, truth)

    return _best(candidates(), "no predicted frame has ground truth")


@cache
def most_annotated(sources: Sources) -> tuple[Scan, int, WeakLabel]:
    """The training frame and the camera that sees annotated points of the most classes; with its weak label."""

    def candidates() -> Iterator[tuple[int, tuple[Scan, int, WeakLabel]]]:
        for frame in sources.weakly_labelled_frames():
            scan = sources.scan("train", frame)
            weak = sources.weak(scan)
            annotated = (weak.sparse > 0) & (weak.sparse != ANNOTATED_IGNORED)
            for camera in range(len(frame.cameras)):
                classes = np.unique(weak.sparse[annotated & (scan.projection.camera == camera)])
                yield len(classes), (scan, camera, weak)

    return _best(candidates(), "no training frame with a weak label has camera images")


def _best(candidates: Iterator[tuple[Any, T]], missing: str) -> T:
    """The first of those (score, what) with the highest score."""
    best = max(candidates, key=lambda candidate: candidate[0], default=None)
    if best is None:
        raise Missing(missing)
    return best[1]
