"""Where the figures take their arrays from: readers, label files, predictions."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.config import Config

from core import builder
from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.datasets.projection import Projection
from core.errors import UserError
from core.label_files.files import (
    PSEUDO_LABEL,
    SUPERPIXEL,
    WEAK_LABEL,
    WeakLabel,
    label_path,
    read_pseudo_label,
    read_superpixels,
    read_weak_label,
)
from core.running.files import read_json

MAX_SEARCHED = 300
"""At most so many frames, spread over the split, are opened when one is chosen for a figure."""


class Missing(Exception):
    """A figure cannot be drawn, since something that it shows is not there (yet)."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A frame with its points.

    Attributes:
        frame: the frame.
        points: float32 [N, 3 + F], x, y, z (m, sensor frame), further features.
        projection: where the points fall in the frame's images.
    """

    frame: Frame
    points: NDArray[np.float32]
    projection: Projection


class Sources:
    """The files of a run. Methods raise Missing for what is not there, UserError for what is damaged."""

    def __init__(self, config: Config, run_dir: str, prediction_dir: str | None):
        self.config, self.run_dir, self.prediction_dir = config, run_dir, prediction_dir
        self.reader: Callable[[str], Reader] = cache(self._reader)

    def _reader(self, split: str) -> Reader:
        try:
            return builder.make_reader(self.config, split)
        except UserError as error:
            raise Missing(str(error)) from None

    def scan(self, split: str, frame: Frame) -> Scan:
        """The points of a frame of a split."""
        reader = self.reader(split)
        points = reader.load_points(frame)
        return Scan(frame, points, reader.project(frame, points))

    def dense(self, split: str, scan: Scan) -> NDArray[np.uint8] | None:
        """uint8 [N], the ground truth; None where it is not at hand."""
        reader = self.reader(split)
        return reader.load_labels(scan.frame, len(scan.points)) if reader.has_labels(scan.frame) else None

    def weak(self, scan: Scan) -> WeakLabel:
        """The weak label of a training frame."""
        return read_weak_label(self.config.dataset.sparse_label_path, scan.frame.token, len(scan.points))

    def pseudo(self, scan: Scan, step_round: int) -> NDArray[np.uint8] | None:
        """uint8 [N], the pseudo-labels of a training frame after round 1 or 2; None before."""
        directory = builder.pseudo_label_dir(self.run_dir, step_round)
        if not os.path.exists(label_path(directory, PSEUDO_LABEL, scan.frame.token)):
            return None
        return read_pseudo_label(directory, scan.frame.token, len(scan.points))

    def superpixels(self, frame: Frame) -> NDArray[np.uint16]:
        """uint16 [K, H, W], the superpixel ids of the images of a frame of the split train."""
        directory, size = self.config.dataset.superpixel, builder.image_size(self.config, self.reader("train"))
        if not os.path.exists(label_path(directory, SUPERPIXEL, frame.token)):
            raise Missing(f"{directory} has no superpixels of frame {frame.token}")
        return read_superpixels(directory, frame.token, [view.token for view in frame.cameras], size)

    def prediction(self, scan: Scan) -> NDArray[np.uint8]:
        """uint8 [N], the prediction of a validation frame."""
        path = self._prediction_path(scan.frame)
        labels, num_classes = np.fromfile(path, np.uint8), self.reader("val").classes.num_classes
        if len(labels) != len(scan.points) or (len(labels) and labels.max() >= num_classes):
            raise UserError(
                f"{path}: expected {len(scan.points)} labels of 0..{num_classes - 1}, found {len(labels)} "
                f"of 0..{labels.max(initial=0)}; make it anew with eval_miou.py --save-predictions"
            )
        return labels

    def _prediction_path(self, frame: Frame) -> str:
        return os.path.join(self.prediction_dir or "", f"{frame.token}.bin")

    def predicted_frames(self) -> list[Frame]:
        """Frames of the split val that have a prediction."""
        if self.prediction_dir is None:
            raise Missing("no predictions given; make them with eval_miou.py --save-predictions DIR")
        path, reader = os.path.join(self.prediction_dir, "meta.json"), self.reader("val")
        if not os.path.exists(path):
            raise Missing(f"{path} is not there")
        meta = read_json(path, "run the command that wrote it again")
        for key, expected in (("split", reader.split), ("classes", list(reader.classes.names))):
            if not isinstance(meta, dict) or meta.get(key) != expected:
                raise UserError(
                    f"{path}: {key} should be that of the data set's split val ({expected}); make the "
                    "predictions anew with eval_miou.py --split val --save-predictions DIR"
                )
        frames = [frame for frame in reader.spread(MAX_SEARCHED) if os.path.exists(self._prediction_path(frame))]
        if not frames:
            raise Missing(f"{self.prediction_dir} has no predictions of the split val")
        return frames

    def weakly_labelled_frames(self) -> list[Frame]:
        """Frames of the split train that have a weak label."""
        directory = self.config.dataset.sparse_label_path
        searched = self.reader("train").spread(MAX_SEARCHED)
        frames = [f for f in searched if os.path.exists(label_path(directory, WEAK_LABEL, f.token))]
        if not frames:
            raise Missing(f"{directory} has no weak labels")
        return frames
