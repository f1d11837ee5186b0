"""What every data set gives the rest of the code: class tables, frames, camera views and sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.lens import Lens

CLASS_KEYS = "123456789abcdefgijklnopqrtuvwyz"
"""Keys of the keyboard for classes that name none; without those of commands: h, m, s, x."""
UNKNOWN = 255
"""In `ClassTable.from_raw`: no class has this raw label."""


@dataclass(frozen=True, eq=False)
class ClassTable:
    """The classes of a data set. Id 0 is the ignored class everywhere.

    Attributes:
        names: class names; the position is the class id, names[0] = "ignored".
        things: ids of the classes of countable objects.
        colors: uint8 [C, 3], RGB, for figures.
        from_raw: uint8 [R], raw label id of the data set's files -> class id.
        to_raw: uint16 [C], class id -> raw label id for submissions; None where submissions hold class ids.
        grounds: ids of the classes of flat ground that look alike.
        keys: the key of the keyboard that stands for each class; none where the data set names none.
    """

    names: tuple[str, ...]
    things: tuple[int, ...]
    colors: NDArray[np.uint8]
    from_raw: NDArray[np.uint8]
    to_raw: NDArray[np.uint16] | None = None
    grounds: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, rows: Sequence[tuple[str, tuple[int, int, int], Sequence[int]]], things: Sequence[int], **more: Any
    ) -> "ClassTable":
        """The table of (name, RGB, the raw labels that the class takes in) of each class, the ignored one first."""
        names, colors, raw = zip(*rows, strict=True)
        from_raw = np.full(1 + max(max(labels, default=0) for labels in raw), UNKNOWN, np.uint8)
        for class_id, labels in enumerate(raw):
            from_raw[list(labels)] = class_id
        return cls(tuple(names), tuple(things), np.array(colors, np.uint8), from_raw, **more)

    @property
    def num_classes(self) -> int:
        """Number of classes with the ignored one."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class CameraView:
    """One camera image of a key frame.

    Attributes:
        name: the camera.
        token: unique key of this image.
        image_path: where the image lies.
        width, height: size of the image file, pixels.
        lidar_to_image: float64 [4, 4]; homogeneous point (m) in the key frame's LiDAR frame at the LiDAR's time
            -> (u * d, v * d, d, 1): pixel coordinates u (to the right) and v (down), depth d (m).
        lens: of a camera that distorts, and then projects in the place of `lidar_to_image`; None for a pinhole.
    """

    name: str
    token: str
    image_path: str
    width: int
    height: int
    lidar_to_image: NDArray[np.float64]
    lens: Lens | None = field(default=None, kw_only=True)


@dataclass(frozen=True, eq=False)
class Sweep:
    """An unlabelled LiDAR sweep before the key frame.

    Attributes:
        path: where its points lie.
        to_key: float64 [4, 4]; homogeneous point (m) in the sweep's LiDAR frame -> the key frame's LiDAR frame.
    """

    path: str
    to_key: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Frame:
    """One labelled LiDAR sweep (key frame) with its camera images.

    Attributes:
        token: unique key of the frame; its weak label and pseudo-label files are named by it.
        scene: name of the recording that it belongs to.
        lidar_path: where its points lie.
        label_path: where its dense labels lie; None where there are none (test split).
        cameras: in the data set's fixed order; where two see a point, the later one counts.
        sweeps: sweeps before the key frame, nearest first; fewer at the start of a recording.
        to_world: float64 [4, 4]; homogeneous point (m) in the LiDAR frame -> a frame that stands still within the
            scene; None where the data set gives none.
    """

    token: str
    scene: str
    lidar_path: str
    label_path: str | None
    cameras: tuple[CameraView, ...]
    sweeps: tuple[Sweep, ...]
    to_world: NDArray[np.float64] | None = field(default=None, kw_only=True)
