"""Which frames are shown: those with the most to see."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from core.figures.sources import Missing, Scan, Sources
from core.label_files.files import ANNOTATED_IGNORED, WeakLabel

CLEARLY_SEEN = 15
"""Points from which on a class counts as seen in an image."""


@cache
def most_classes(sources: Sources) -> tuple[Scan, int, NDArray[np.uint8]]:
    """The predicted frame and the camera that sees the most classes clearly, and of these the most small things' points
    (all but those of the largest thing class in it); with the frame's ground truth."""
    things = np.array(sources.reader("val").classes.things)
    best: tuple[Scan, int, NDArray[np.uint8]] | None = None
    most = (-1, -1)
    for frame in sources.predicted_frames():
        scan = sources.scan("val", frame)
        truth = sources.dense("val", scan)
        if truth is None:
            continue
        for camera in range(len(frame.cameras)):
            counts = np.bincount(truth[scan.projection.camera == camera], minlength=256)
            small_things = int(counts[things].sum() - counts[things].max())
            score = (int((counts[1:] >= CLEARLY_SEEN).sum()), small_things)
            if score > most:
                best, most = (scan, camera, truth), score
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
