"""Which frames are shown: those with the most to see."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.datasets.label_files import ANNOTATED_IGNORED, WeakLabel
from core.figures.sources import Missing, Scan, Sources


@cache
def most_things(sources: Sources) -> tuple[Scan, int, NDArray[np.uint8]]:
    """The predicted frame and the camera with the most points of thing classes; with the frame's ground truth."""
    things = sources.reader("val").classes.things
    best: tuple[Scan, int, NDArray[np.uint8]] | None = None
    most = -1
    for frame in sources.predicted_frames():
        scan = sources.scan("val", frame)
        truth = sources.dense("val", scan)
        if truth is None or not frame.cameras:
            continue
        seen = scan.projection.seen & np.isin(truth, things)
        counts = np.bincount(scan.projection.camera[seen], minlength=len(frame.cameras))
        if counts.max() > most:
            best, most = (scan, int(counts.argmax()), truth), int(counts.max())
    if best is None:
        raise Missing("no predicted frame has ground truth")
    return best


@cache
def most_annotated(sources: Sources) -> tuple[Scan, int, WeakLabel]:
    """The training frame and the camera that sees annotated points of the most classes; with its weak label."""
    best: tuple[Scan, int, WeakLabel] | None = None
    most = -1
    for frame in sources.weakly_labelled_frames():
        scan = sources.scan("train", frame)
        weak = sources.weak(scan)
        annotated = (weak.sparse > 0) & (weak.sparse != ANNOTATED_IGNORED)
        views = [annotated & (scan.projection.camera == k) for k in range(len(frame.cameras))]
        counts = [len(np.unique(weak.sparse[view])) for view in views]
        if counts and max(counts) > most:
            best, most = (scan, int(np.argmax(counts)), weak), max(counts)
    if best is None:
        raise Missing("no training frame with a weak label has camera images")
    return best
