"""Submissions to the lidarseg benchmark of nuScenes."""

import os

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.base import Reader, Submission
from core.datasets.frame import Frame
from core.errors import UserError
from core.running.files import make_folder, write_atomic, write_json

MODALITIES = ("camera", "lidar", "radar", "map", "external")
TEST_FRAMES = 6008
"""Key frames that the benchmark's server wants."""
FALLBACK_CLASS = 1
"""Label of points in frames where no camera sees any point: the benchmark takes no 0."""


class LidarsegSubmission(Submission):
    """The benchmark's tree: lidarseg/<split>/<token>_lidarseg.bin (uint8, 1..16) and <split>/submission.json."""

    def __init__(self, directory: str, reader: Reader):
        self.directory, self.reader = directory, reader
        self.folder = os.path.join(directory, "lidarseg", reader.split)
        make_folder(self.folder)

    def write(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        labels = np.where(labels == 0, np.uint8(FALLBACK_CLASS), labels)
        with write_atomic(os.path.join(self.folder, f"{frame.token}_lidarseg.bin")) as file:
            file.write(labels.tobytes())

    def finish(self) -> None:
        """Called by the first process when all frames are written: writes submission.json and checks the tree.

        Raises UserError naming the first file that is missing or wrong.
        """
        modalities = {f"use_{name}": name in ("camera", "lidar") for name in MODALITIES}
        write_json(os.path.join(self.directory, self.reader.split, "submission.json"), {"meta": modalities})
        self.check()
        if self.reader.split == "test" and len(self.reader) != TEST_FRAMES:
            logger.warning(
                f"{self.directory}: labels of {len(self.reader)} key frames; the benchmark's server wants all "
                f"{TEST_FRAMES} of the test split."
            )

    def check(self) -> None:
        """Every frame is there, every point labelled, every label one of the classes."""
        for frame in self.reader:
            path = os.path.join(self.folder, f"{frame.token}_lidarseg.bin")
            if not os.path.exists(path):
                raise UserError(f"{path}: missing in the submission; run the same command again")
            labels = np.fromfile(path, np.uint8)
            num_points = len(self.reader.load_points(frame))
            if len(labels) != num_points or not np.all((labels > 0) & (labels < self.reader.classes.num_classes)):
                raise UserError(
                    f"{path}: expected {num_points} labels of 1..{self.reader.classes.num_classes - 1}; "
                    "run the same command again"
                )
