"""The interface of a data set."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView, ClassTable, Frame, Sweep
from core.datasets.point_checks import is_valid
from core.datasets.projection import Projection, project


class Submission(ABC):
    """A benchmark's files, written frame by frame; `write` may run in several processes."""

    @abstractmethod
    def write(self, frame: Frame, labels: NDArray[np.uint8]) -> None:
        """Writes one frame.

        Args:
            labels: uint8 [N], classes of all points but the ignored one; 0 where nothing was predicted in the frame.
        """

    @abstractmethod
    def finish(self) -> None:
        """Called by the first process when all frames are written: completes the submission and checks it.

        Raises UserError: something is missing or wrong; names the first file.
        """


class Reader(ABC):
    """One split of one data set: a list of frames, and how their files are read.

    Attributes:
        classes: the classes that `load_labels` returns.
        features: names of a point's features beside x, y, z.
        name: the data set, as the catalog lists it.
        version: its version, where it has several.
        split: "train", "val" or "test".
        annotate: which points get labels: "in_view", those that a camera sees, or "all".
    """

    annotate: str = "in_view"
    classes: ClassTable
    features: tuple[str, ...]
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
    def load_points(self, frame: Frame) -> NDArray[np.float32]:
        """Reads the points of a key frame: float32 [N, 3 + F], x, y, z (m, its sensor frame), `features` as stored.

        A row that is not a number throughout is no point (`dataset.invalid_points: drop`): no camera sees it, nothing
        labels it. See `core.datasets.point_checks.is_valid`.

        Raises UserError: the file is missing, truncated, empty or holds coordinates that are not finite.
        """

    @abstractmethod
    def load_sweep(self, sweep: Sweep) -> NDArray[np.float32]:
        """Reads the points of an earlier sweep in its own sensor frame: float32 [M, >= 3], x, y, z (m); valid ones.

        Raises UserError: as `load_points`.
        """

    def has_labels(self, frame: Frame) -> bool:
        """Whether the dense ground truth of a frame is at hand."""
        return frame.label_path is not None and os.path.exists(frame.label_path)

    @abstractmethod
    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """Reads the dense ground truth: uint8 [num_points], class ids. Only annotation and evaluation may call it.

        Raises UserError: the frame has no labels, or the file is missing or of another length.
        """

    @abstractmethod
    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks, without opening them, that the files of the whole split are there, links followed.

        Args:
            labels: the dense labels too.
            sweeps: the earlier sweeps too.
        Raises UserError: some are missing; names the first and the count.
        """

    @abstractmethod
    def open_submission(self, directory: str) -> Submission:
        """A writer of the benchmark's submission into `directory`."""

    def benchmark_iou(self, confusion: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """IoU of each class by the benchmark's own rule, where that is not `core.scores.metrics.class_iou`'s.

        Args:
            confusion: counts [C, C] over all points: row = label, column = prediction.
        Returns float64 [C], NaN for classes that its mean leaves out; None where the benchmark has no rule of its own.
        """
        return None

    def load_image(self, view: CameraView) -> NDArray[np.uint8]:
        """Reads a camera image: uint8 [view.height, view.width, 3], RGB.

        Raises UserError: the file is missing, does not decode, or has another size.
        """
        from core.datasets.images import load_image  # needs torch, which is slow to import

        return load_image(view.image_path, view.width, view.height, self.size_hint(view))

    def size_hint(self, view: CameraView) -> str:
        """What to do where an image is not of the size that the data set says, for the error."""
        return "unpack the data set's image files again"

    def project(self, frame: Frame, points: NDArray[np.floating]) -> Projection:
        """Where the points of a frame (all N, as `load_points` returns them) fall in its camera images."""
        return project(points, frame.cameras)

    def annotated(
        self, frame: Frame, points: NDArray[np.floating], seen: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """bool [N]: which points of a frame (all N) get labels, by `annotate`; `seen` where that is known already."""
        if self.annotate == "all":
            return is_valid(points)
        return self.project(frame, points).seen if seen is None else seen

    @property
    def has_cameras(self) -> bool:
        """Whether the data set has camera images."""
        return any(frame.cameras for frame in self)

    def in_file(self, frame: Frame, values: NDArray, fill: int | float = 0) -> NDArray:
        """Values [N, ...] of a frame's points as values of all rows of its LiDAR file.

        They are the same but where `load_points` leaves rows out, which get `fill`.
        """
        return values

    def notes(self) -> list[str]:
        """What a user should know of how the files were understood, line by line."""
        return []

    def spread(self, most: int) -> list[Frame]:
        """At most so many frames, spread evenly over the split."""
        return [self.frame(int(i)) for i in np.linspace(0, len(self) - 1, min(len(self), most)).round()]

    def token(self, index: int) -> str:
        """Token of frame `index`."""
        return self.frame(index).token

    def tokens(self) -> list[str]:
        """Tokens of all frames, in order."""
        return [self.token(i) for i in range(len(self))]

    def __iter__(self) -> Iterator[Frame]:
        return (self.frame(i) for i in range(len(self)))
