"""A city and the formats it is written in: what all formats share, and what each of them gives."""

import json
import os
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from core.running.files import write_atomic, write_json
from core.synthetic.formats import find_format
from core.synthetic.poses import Matrix
from core.synthetic.scene import KEY_FRAME_SECONDS, Scene, make_scene

RECORDS = "city_frames"  # folder of one small file a key frame, written when its other files are
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class City:
    """What a made-up city depends on, file by file."""

    format: str  # one of `format_names`
    train_scenes: int
    val_scenes: int
    test_scenes: int
    frames: int  # key frames a scene
    azimuth_steps: int  # of a LiDAR turn
    image_size: tuple[int, int]  # height, width
    seed: int

    def writer(self) -> "CityFormat":
        """The format that it is written in."""
        writer: CityFormat = find_format(self.format)
        return writer

    def scene(self, name: str) -> Scene:
        """The scene of that name."""
        return make_scene(self.seed, name, self.frames)

    def rng(self, *names: object) -> np.random.Generator:
        """Random numbers of what bears these names, alone."""
        return np.random.default_rng([self.seed, *(zlib.crc32(str(name).encode()) for name in names)])


def seconds(frame: int) -> float:
    """Time of a key frame after the first of its scene."""
    return frame * KEY_FRAME_SECONDS


def numbers(rows: Matrix) -> str:
    """A matrix as one line of text."""
    return " ".join(f"{value:.12e}" for value in rows.flatten())


@dataclass(frozen=True)
class FrameFiles:
    """What a format writes for one key frame.

    Attributes:
        files: content by path below the data root.
        labels: points of each of the format's classes, in the order of `CityFormat.class_names`.
    """

    files: dict[str, bytes]
    labels: list[int]


class CityFormat(Protocol):
    """Writes the city as one data set. To be found, a module of core/synthetic/formats calls its instance FORMAT.

    Attributes:
        folders: what lies in a root of the real data set; such a root is never written to.
        class_names: the classes that points are counted by; own_class: that of the vehicle itself, "" for none.
        small: arguments of a `City` of a size for tries; full_size: those of the real sensors, as one types them.
    """

    folders: tuple[str, ...]
    class_names: tuple[str, ...]
    own_class: str
    small: dict[str, Any]
    full_size: str

    def scene_names(self) -> dict[str, list[str]]:
        """All names that scenes of each split may have, in order: {"train": [...], "val": [...], "test": [...]}."""

    def frame_files(self, city: City, name: str, frame: int, labelled: bool) -> FrameFiles:
        """The files of key frame `frame`, from 0, of scene `name`; with dense labels only where `labelled`."""

    def finish(self, root: str, city: City, scenes: dict[str, list[str]]) -> None:
        """Writes what is not of a single key frame, when all are written: tables, calibration, poses.

        Args:
            scenes: names of the city's scenes by split.
        """


def record_path(root: str, scene: str, frame: int) -> str:
    """Where a key frame's record lies."""
    return os.path.join(root, RECORDS, f"{scene}_{frame:03d}.json")


def read_record(root: str, scene: str, frame: int) -> dict[str, Any] | None:
    """The record of a key frame, or None where it or any of its files is missing or cut short."""
    try:
        with open(record_path(root, scene, frame)) as file:
            record: dict[str, Any] = json.load(file)
        whole = all(os.path.getsize(os.path.join(root, name)) == size for name, size in record["files"].items())
    except (OSError, ValueError):
        return None
    return record if whole else None


def write_frame(root: str, city: City, name: str, frame: int, labelled: bool) -> None:
    """Writes the files of a key frame, and last its record.

    Args:
        root: data root.
        city: what to make.
        name: of the scene.
        frame: number of the key frame within the scene, from 0.
        labelled: whether to write the labels (not for test scenes).
    """
    made = city.writer().frame_files(city, name, frame, labelled)
    for filename, content in made.files.items():
        with write_atomic(os.path.join(root, filename)) as file:
            file.write(content)
    sizes = {filename: len(content) for filename, content in made.files.items()}
    write_json(record_path(root, name, frame), {"files": sizes, "labels": made.labels})
