"""Predictions on disk."""

import os

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.running.files import make_folder, write_atomic, write_json


class PredictionWriter:
    """Writes predictions of all points: DIR/<token>.bin, uint8 [N] class ids, and meta.json with the class names;
    where asked for, their confidences too: DIR/<token>.confidence.bin, float16 [N].
    """

    def __init__(self, directory: str, reader: Reader):
        self.directory, self.reader = directory, reader
        make_folder(directory)

    def write(self, token: str, labels: NDArray[np.uint8], confidence: NDArray[np.floating] | None = None) -> None:
        """Writes one frame.

        Args:
            labels: uint8 [N], argmax over all classes; 0 also for what is no point.
            confidence: [N], probability of that class, 0..1; None: not written.
        """
        with write_atomic(os.path.join(self.directory, f"{token}.bin")) as file:
            file.write(labels.tobytes())
        if confidence is not None:
            with write_atomic(os.path.join(self.directory, f"{token}.confidence.bin")) as file:
                file.write(confidence.astype("<f2").tobytes())

    def finish(self, checkpoint: str) -> None:
        """Called by the first process when all frames are written."""
        meta = {
            "checkpoint": checkpoint,
            "dataset": self.reader.name,
            "version": self.reader.version,
            "split": self.reader.split,
            "classes": list(self.reader.classes.names),
        }
        write_json(os.path.join(self.directory, "meta.json"), meta)
