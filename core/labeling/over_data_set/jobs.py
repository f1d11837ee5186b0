"""What is made for each frame of a data set: one job per kind of label file."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from core.datasets.base import Reader
from core.datasets.image_cache import cache_parameters, read_images, resized_images, write_images
from core.label_files.files import (
    IMAGE_CACHE,
    SUPERPIXEL,
    WEAK_LABEL,
    BrokenFile,
    read_superpixels,
    read_weak_label,
    read_weak_label_statistics,
    write_superpixels,
    write_weak_label,
)
from core.labeling.annotation.parameters import SuperpixelParameters, WeakLabelParameters
from core.labeling.annotation.statistics import average_statistics, scene_statistics, statistics_lines
from core.labeling.annotation.weak_label import check_packages
from core.labeling.annotation.windows import label_window, windows_of
from core.labeling.superpixels.superpixels import check_implementation, make_superpixels
from core.running.workers import Work


class Job(Work, Protocol):
    """Makes the label files of single frames.

    Attributes:
        kind: of the label files.
        identity: hash of all that they depend on.
    """

    kind: str
    identity: str

    @property
    def reader(self) -> Reader: ...

    @property
    def parameters(self) -> Any:
        """What meta.json records of how the files are made."""

    @property
    def seed(self) -> int | None:
        """Of what is drawn; None where nothing is."""

    def check_packages(self) -> dict[str, Any]:
        """Raises UserError where an optional package is missing; returns what meta.json records of the packages."""

    def statistics(self) -> dict[str, Any]:
        """Statistics over all frames, read from the files."""

    def summary(self, statistics: dict[str, Any]) -> str:
        """The statistics as lines to show."""


@dataclass
class WeakLabelJob:
    """Weak labels: one file per frame."""

    reader: Reader
    directory: str
    parameters: WeakLabelParameters
    seed: int
    identity: str = ""
    kind: str = WEAK_LABEL

    def check_packages(self) -> dict[str, Any]:
        return check_packages(self.parameters)

    def make(self, index: int) -> bool:
        """See Job. The frames of a window are made together, with the first of them."""
        indices = self.windows.get(index, range(0))
        frames = [self.reader.frame(i) for i in indices]
        if all(self._is_whole(frame.token) for frame in frames):
            return False
        labels = label_window(self.reader, frames, self.parameters, self.seed)
        for frame, (label, statistics) in zip(frames, labels, strict=True):
            write_weak_label(self.directory, frame.token, label, vars(statistics), self.identity)
        return True

    @cached_property
    def windows(self) -> dict[int, range]:
        """{index of its first frame: indices of its frames} of each window."""
        return {window.start: window for window in windows_of(self.reader, self.parameters.window)}

    def _is_whole(self, token: str) -> bool:
        try:
            read_weak_label(self.directory, token, parameters_hash=self.identity)
        except BrokenFile:
            return False
        return True

    def statistics(self) -> dict[str, Any]:
        frames = [read_weak_label_statistics(self.directory, t, self.identity) for t in self.reader.tokens()]
        scenes, names = [frame.scene for frame in self.reader], self.reader.classes.names
        return {**average_statistics(frames, names), "scenes": scene_statistics(frames, scenes, names)}

    def summary(self, statistics: dict[str, Any]) -> str:
        return statistics_lines(statistics)


class _Images:
    """What jobs on images share."""

    reader: Reader

    def statistics(self) -> dict[str, Any]:
        return {"frames": len(self.reader), "images": sum(len(frame.cameras) for frame in self.reader)}


@dataclass
class SuperpixelJob(_Images):
    """Superpixels: one file per frame."""

    reader: Reader
    directory: str
    parameters: SuperpixelParameters
    seed: None = None
    identity: str = ""
    kind: str = SUPERPIXEL

    def check_packages(self) -> dict[str, Any]:
        return check_implementation(self.parameters)

    def make(self, index: int) -> bool:
        from core.datasets.images import resize_image  # needs torch, which is slow to import

        frame, size = self.reader.frame(index), self.parameters.image_size
        cameras = [camera.token for camera in frame.cameras]
        try:
            read_superpixels(self.directory, frame.token, cameras, size, self.identity)
        except BrokenFile:
            ids = np.empty((len(cameras), *size), np.uint16)
            for k, camera in enumerate(frame.cameras):
                ids[k] = make_superpixels(resize_image(self.reader.load_image(camera), size), self.parameters)
            write_superpixels(self.directory, frame.token, cameras, ids, self.identity)
            return True
        return False

    def summary(self, statistics: dict[str, Any]) -> str:
        return f"superpixels of {statistics['images']} images of {statistics['frames']} frames"


@dataclass
class ImageCacheJob(_Images):
    """Resized images: one file per frame."""

    reader: Reader
    directory: str
    image_size: tuple[int, int]
    seed: None = None
    identity: str = ""
    kind: str = IMAGE_CACHE

    @property
    def parameters(self) -> dict[str, Any]:
        """What meta.json records."""
        return cache_parameters(self.image_size)

    def check_packages(self) -> dict[str, Any]:
        return {}

    def make(self, index: int) -> bool:
        frame = self.reader.frame(index)
        try:
            read_images(self.directory, frame.token, (len(frame.cameras), 3, *self.image_size))
        except BrokenFile:
            images = resized_images(self.reader, frame.cameras, self.image_size)
            write_images(self.directory, frame.token, images)
            return True
        return False

    def summary(self, statistics: dict[str, Any]) -> str:
        return f"{statistics['images']} resized images of {statistics['frames']} frames"
