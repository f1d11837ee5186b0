"""Submissions to SemanticKITTI's single-scan benchmark."""

import os
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.base import Reader, Submission
from core.datasets.frame import Frame
from core.datasets.reading import read_bytes
from core.errors import UserError
from core.running.files import make_folder, write_atomic

FALLBACK_CLASS = 15
"""Label (vegetation, the commonest) of points in scans where no camera sees any point: 0 would count as a miss."""
ZIP_NAME = "submission.zip"
AGAIN = "run the same command again"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same bytes every time


class KittiSubmission(Submission):
    """The benchmark's tree sequences/SS/predictions/NNNNNN.label (uint32, raw labels), and submission.zip of it.

    Args:
        directory: of the tree.
        reader: the split.
        lacking: tells the sequences of the split of which scans are missing.
    """

    def __init__(self, directory: str, reader: Reader, lacking: Callable[[], Sequence[str]]):
        self.directory, self.reader, self.lacking = directory, reader, lacking
        make_folder(os.path.join(directory, "sequences"))

    def write(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        labels = np.where(labels == 0, np.uint8(FALLBACK_CLASS), labels)
        with write_atomic(os.path.join(self.directory, self._name(frame))) as file:
            file.write(self._raw()[labels].astype("<u4").tobytes())

    def finish(self) -> None:
        """Called by the first process when all frames are written: checks their files and makes the zip of them.

        Raises UserError naming the first file that is missing or wrong.
        """
        folders = sorted({"/".join(self._name(f).split("/")[:k]) + "/" for f in self.reader for k in (1, 2, 3)})
        with (
            write_atomic(os.path.join(self.directory, ZIP_NAME)) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for folder in folders:  # the benchmark wants them as entries of their own
                entry = zipfile.ZipInfo(folder, _ZIP_TIME)
                entry.external_attr = (0o40755 << 16) | 0x10
                archive.writestr(entry, b"")
            for frame in self.reader:
                entry = zipfile.ZipInfo(self._name(frame), _ZIP_TIME)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
                archive.writestr(entry, self._checked(frame))
        lacking = ", ".join(self.lacking())
        if self.reader.split != "test" or lacking:
            what = f"sequence {lacking} is not whole" if lacking else "these are not the test sequences"
            logger.warning(
                f"{os.path.join(self.directory, ZIP_NAME)}: {what}; the benchmark's server takes nothing but the "
                "whole sequences 11 to 21."
            )

    def _checked(self, frame: Frame) -> bytes:
        """The file of a frame: every point labelled, every label a raw one of a class."""
        path = os.path.join(self.directory, self._name(frame))
        content, num_points = read_bytes(path, "submission: file", AGAIN), len(self.reader.load_points(frame))
        if len(content) != 4 * num_points:
            raise UserError(f"{path}: has {len(content) / 4:g} labels, its scan {num_points} points; {AGAIN}")
        labels = np.frombuffer(content, "<u4")
        illegal = labels[~np.isin(labels, self._raw()[1:])]
        if len(illegal):
            raise UserError(f"{path}: holds label {illegal[0]}, which no class has; {AGAIN}")
        return content

    def _raw(self) -> NDArray[np.uint16]:
        to_raw = self.reader.classes.to_raw
        assert to_raw is not None
        return to_raw

    @staticmethod
    def _name(frame: Frame) -> str:
        """Path in the tree and in the zip; a scan's file is called as its labels are."""
        scan = os.path.splitext(os.path.basename(frame.lidar_path))[0]
        return f"sequences/{frame.scene}/predictions/{scan}.label"
