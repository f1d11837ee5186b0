"""The interface of a data set."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import ClassTable, Frame


class Reader(ABC):
    """One split of one data set: a list of frames, and how their files are read.

    Attributes:
        classes: the classes that `load_labels` returns.
        name: the data set, e.g. "nuscenes".
        version: its version, e.g. "v1.0-trainval".
        split: "train", "val" or "test".
    """

    classes: ClassTable
    name: str
    version: str
    split: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames in the split."""

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """Frame `index`, 0 <= index < len(self). Opens no file."""

    @abstractmethod
    def load_points(self, path: str) -> NDArray[np.float32]:
        """Reads the points of a key frame or sweep: float32 [N, 4], x, y, z (m, sensor frame), intensity as stored.

        Raises:
            UserError: the file is missing, truncated, empty or holds coordinates that are not finite.
        """

    @abstractmethod
    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """Reads the dense ground truth: uint8 [num_points], class ids. Only annotation and evaluation may call it.

        Raises:
            UserError: the frame has no labels, or the file is missing or of another length.
        """

    @abstractmethod
    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks, without opening them, that the files of the whole split are there.

        Args:
            labels: the dense labels too.
            sweeps: the earlier sweeps too.

        Raises:
            UserError: some are missing; names the first and the count.
        """

    def tokens(self) -> list[str]:
        """Tokens of all frames, in order."""
        return [self.frame(i).token for i in range(len(self))]

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(len(self)))
