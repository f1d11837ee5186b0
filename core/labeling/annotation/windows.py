"""Frames that are pre-segmented together: one frame, or several of a scene moved into one by their poses."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.errors import UserError
from core.label_files.files import WeakLabel
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate
from core.labeling.annotation.statistics import FrameStatistics, frame_statistics
from core.labeling.annotation.weak_label import gather_sweeps, label_frame, pre_segment, spread


@dataclass(frozen=True, eq=False)
class Window:
    """The components of frames that were pre-segmented together.

    Attributes:
        frames: in order; the window is called by the first one's token.
        points: per frame float32 [N, 3 + F], as the reader gives them.
        rows: per frame int64 [n], the points that take part.
        component: per frame int32 [n], of these points: ground components 0..num_ground-1, then clusters; -1 = none.
        num_ground: number of ground components.
        sizes: int64 [K], points of each component, over all frames.
    """

    frames: Sequence[Frame]
    points: Sequence[NDArray[np.float32]]
    rows: Sequence[NDArray[np.int64]]
    component: Sequence[NDArray[np.int32]]
    num_ground: int
    sizes: NDArray[np.int64]


def windows_of(reader: Reader, length: int) -> list[range]:
    """Indices of the frames of each window: `length` consecutive ones of a scene, fewer at its end."""
    if length < 1:
        raise UserError(f"proposals.window: {length}, expected a whole number of at least 1")
    if length == 1:
        return [range(i, i + 1) for i in range(len(reader))]
    found: list[range] = []
    for i, frame in enumerate(reader):
        last = found[-1] if found else range(0)
        if len(last) in (0, length) or reader.frame(last[0]).scene != frame.scene:
            found.append(range(i, i + 1))
        else:
            found[-1] = range(last.start, i + 1)
    return found


def frame_rng(seed: int, token: str) -> np.random.Generator:
    """Random numbers of one frame or window alone."""
    return np.random.default_rng([seed, zlib.crc32(token.encode())])


def pre_segment_window(
    reader: Reader, frames: Sequence[Frame], parameters: WeakLabelParameters, rng: np.random.Generator
) -> Window:
    """Reads frames and splits their points into components.

    Several frames: all points are moved into the middle frame; ground is found among them, without earlier sweeps; the
    rest is thinned to a point a voxel for the clusters, and takes its voxel's.

    Raises:
        UserError: several frames, and one has no pose.
    """
    points = [reader.load_points(frame) for frame in frames]
    rows = [np.flatnonzero(reader.annotated(frame, cloud)) for frame, cloud in zip(frames, points, strict=True)]
    clouds = [cloud[chosen, :3] for cloud, chosen in zip(points, rows, strict=True)]
    if len(frames) == 1:
        sweeps = gather_sweeps(reader, frames[0], parameters)
        component, num_ground = pre_segment(clouds[0], sweeps, parameters, rng)
    else:
        together = np.concatenate(_moved(frames, clouds))
        none = np.empty((0, 3))
        component, num_ground = pre_segment(together, none, parameters, rng, thin=parameters.window_voxel)
    sizes = np.bincount(component[component >= 0], minlength=int(component.max(initial=-1)) + 1)
    parts = np.split(component, np.cumsum([len(cloud) for cloud in clouds])[:-1])
    return Window(frames, points, rows, parts, num_ground, sizes)


def _moved(frames: Sequence[Frame], clouds: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
    """The clouds in the frame of the middle one, float64 [n, 3] each (m)."""
    poses = []
    for frame in frames:
        if frame.to_world is None:
            raise UserError(
                f"{frame.lidar_path}: this frame has no pose, which proposals.window above 1 needs; add poses, or set "
                "it to 1"
            )
        poses.append(frame.to_world)
    to_middle = np.linalg.inv(poses[len(poses) // 2])
    return [
        cloud @ (to_middle @ pose)[:3, :3].T + (to_middle @ pose)[:3, 3]
        for cloud, pose in zip(clouds, poses, strict=True)
    ]


def label_window(
    reader: Reader, frames: Sequence[Frame], parameters: WeakLabelParameters, seed: int
) -> list[tuple[WeakLabel, FrameStatistics]]:
    """The weak labels of frames that are annotated together, one click a component, by the simulated annotator."""
    if len(frames) == 1:
        return [label_frame(reader, frames[0], parameters, seed)]
    rng = frame_rng(seed, frames[0].token)
    window = pre_segment_window(reader, frames, parameters, rng)
    dense = [reader.load_labels(frame, len(cloud)) for frame, cloud in zip(frames, window.points, strict=True)]
    classes = reader.classes
    labels = np.concatenate([label[rows] for label, rows in zip(dense, window.rows, strict=True)])
    component = np.concatenate(window.component)
    label = annotate(component, window.num_ground, labels, classes.num_classes, classes.things, parameters, rng)
    found = split_label(label, window)
    return [
        (own, frame_statistics(own, reader.annotated(frame, cloud), truth, classes.num_classes))
        for own, frame, cloud, truth in zip(found, frames, window.points, dense, strict=True)
    ]


def split_label(label: WeakLabel, window: Window) -> list[WeakLabel]:
    """The label of all points that take part in a window, as one for each frame, of all its points."""
    ends = np.cumsum([len(rows) for rows in window.rows])
    found = []
    for rows, cloud, end in zip(window.rows, window.points, ends, strict=True):
        part = slice(end - len(rows), end)
        used = np.unique(label.component[part])
        used = used[used >= 0]
        new_id = np.full(len(label.candidates) + 1, -1, np.int32)  # the last serves component -1
        new_id[used] = np.arange(len(used))
        own = WeakLabel(
            label.sparse[part], label.propagated[part], new_id[label.component[part]], label.candidates[used]
        )
        found.append(spread(own, rows, len(cloud)))
    return found
