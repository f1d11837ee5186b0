"""Submissions to Waymo's 3D semantic segmentation benchmark."""

import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.base import Reader, Submission
from core.datasets.frame import Frame
from core.datasets.waymo.frame import WaymoFrame
from core.datasets.waymo.message import TEXTS, SubmittedFrame, encode_frame, encode_submission, submitted_frames
from core.datasets.waymo.turn import Echoes
from core.errors import UserError
from core.running.files import make_folder, write_atomic

FILE = "submission.bin"
FRAMES = "frames"
REQUIRED = ("account_name", "unique_method_name")


class SemanticSegmentationSubmission(Submission):
    """One message for the whole split, DIR/submission.bin, put together of one file per frame, DIR/frames/<token>.bin.

    Args:
        directory: DIR.
        reader: the split.
        echoes: which cells of a frame's range images its points are from.
        num_wanted: frames that the benchmark's server wants.
        texts: account_name (the address registered with Waymo), unique_method_name, authors (a list), affiliation,
            description, method_link.
    Raises UserError: a required text is missing, or the folder cannot be made.
    """

    def __init__(
        self,
        directory: str,
        reader: Reader,
        texts: Mapping[str, Any],
        echoes: Callable[[Frame], Echoes],
        num_wanted: int,
    ) -> None:
        for name in REQUIRED:
            if not texts.get(name):
                raise UserError(f"dataset.submission.{name} is empty: the benchmark wants it, set it")
        unknown = sorted(set(texts) - set(TEXTS))
        if unknown:
            raise UserError(f"dataset.submission.{unknown[0]} is unknown; known are: {', '.join(TEXTS)}")
        self.directory, self.reader, self.texts = directory, reader, dict(texts)
        self.echoes, self.num_wanted = echoes, num_wanted
        self.path = os.path.join(directory, FILE)
        make_folder(os.path.join(directory, FRAMES))

    def write(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        assert isinstance(frame, WaymoFrame)
        echoes = self.echoes(frame)
        images = []
        begin = 0
        for cells in echoes.cells:
            image = np.zeros(echoes.shape, np.uint8)
            image.reshape(-1)[cells] = labels[begin : begin + len(cells)]
            images.append(image)
            begin += len(cells)
        content = encode_frame(SubmittedFrame(frame.segment, frame.timestamp, (images[0], images[1])))
        with write_atomic(self._part(frame.token)) as file:
            file.write(content)

    def finish(self) -> None:
        """Puts the frames together, reads the message back and checks it; see `Submission`."""
        parts = [self._part(token) for token in self.reader.tokens()]
        for path in parts:
            if not os.path.exists(path):
                raise UserError(f"{path}: missing in the submission; run the same command again")
        with write_atomic(self.path) as file:
            file.write(encode_submission(self.texts, map(_read, parts)))
        self.check()
        shutil.rmtree(os.path.join(self.directory, FRAMES))
        if len(self.reader) < self.num_wanted:
            logger.warning(
                f"{self.path}: labels of {len(self.reader)} frames; the benchmark's server wants all "
                f"{self.num_wanted} that dataset.test_frames lists."
            )

    def check(self) -> None:
        """Reads the message back: each frame of the split once, both returns, classes only where there is an echo.

        Raises UserError: naming the first frame that is missing or wrong.
        """
        frames = (self.reader.frame(i) for i in range(len(self.reader)))
        expected = {(frame.segment, frame.timestamp): frame for frame in frames if isinstance(frame, WaymoFrame)}
        try:
            with open(self.path, "rb") as file:
                message = file.read()
            for found in submitted_frames(message):
                self._check_frame(found, expected.pop((found.segment, found.timestamp), None))
        except (OSError, ValueError, KeyError, zlib.error) as error:
            raise UserError(f"{self.path}: not a whole submission ({error}); run the same command again") from None
        if expected:
            segment, timestamp = next(iter(expected))
            raise UserError(f"{self.path}: no labels of frame {segment},{timestamp}; run the same command again")

    def _check_frame(self, found: SubmittedFrame, frame: Frame | None) -> None:
        what = f"{self.path}: frame {found.segment},{found.timestamp}"
        if frame is None:
            raise UserError(f"{what} is there twice or not of this split; run the same command again")
        echoes = self.echoes(frame)
        for number, (labels, cells) in enumerate(zip(found.labels, echoes.cells, strict=True), 1):
            classes = labels.reshape(-1)[cells] if labels.shape == echoes.shape else np.zeros(1)
            if labels.shape != echoes.shape or classes.max(initial=0) >= self.reader.classes.num_classes:
                raise UserError(
                    f"{what}: return {number} has labels {labels.shape} of 0..{labels.max(initial=0)}, expected "
                    f"{echoes.shape} of 0..{self.reader.classes.num_classes - 1}; run the same command again"
                )
            if np.count_nonzero(labels) != np.count_nonzero(classes):
                raise UserError(f"{what}: return {number} has labels without an echo; run the same command again")

    def _part(self, token: str) -> str:
        return os.path.join(self.directory, FRAMES, f"{token}.bin")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
