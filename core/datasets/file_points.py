"""What E-steps and scores need of every point of a LiDAR file, brought by the loader's workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.datasets.point_checks import is_valid
from core.label_files.files import WeakLabel

PER_POINT = ("voxel", "seen", "annotated", "mixed", "weak", "label", "labelled")


@dataclass
class FilePoints:
    """All N points of one frame's LiDAR file, in the file's order. The fields agree in length.

    Attributes:
        voxel: int32 [N], voxel of the sample whose label the point takes; -1: none, so that its label is 0.
        seen: bool [N], whether a camera sees the point.
        annotated: bool [N], whether it gets labels (see `Reader.annotated`).
        mixed: bool [N], whether it is in a component with candidates.
        weak: bool [N], whether it is annotated (as the ignored class too) or propagated.
        label: uint8 [N], dense ground truth; 0 where there is none.
        labelled: bool [N], whether there is dense ground truth: for all points of the frame or for none.
    """

    voxel: NDArray[np.int32]
    seen: NDArray[np.bool_]
    annotated: NDArray[np.bool_]
    mixed: NDArray[np.bool_]
    weak: NDArray[np.bool_]
    label: NDArray[np.uint8]
    labelled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.voxel)


def describe_points(
    voxel: NDArray[np.int32],
    seen: NDArray[np.bool_],
    weak: WeakLabel | None,
    label: NDArray[np.uint8] | None,
    annotated: NDArray[np.bool_] | None = None,
) -> FilePoints:
    """Puts together what is known of a frame's points; fields of labels that are not given are 0, `annotated` is as
    `seen`."""
    count = len(voxel)
    return FilePoints(
        voxel=voxel,
        seen=seen,
        annotated=seen if annotated is None else annotated,
        mixed=np.zeros(count, bool) if weak is None else weak.point_candidates() != 0,
        weak=np.zeros(count, bool) if weak is None else (weak.sparse != 0) | (weak.propagated != 0),
        label=np.zeros(count, np.uint8) if label is None else label,
        labelled=np.full(count, label is not None),
    )


def voxel_of_points(
    point_voxel: NDArray[np.integer], rows: NDArray[np.integer], xyz: NDArray[np.floating], nearest: bool
) -> NDArray[np.int32]:
    """int32 [N], the voxel whose label each point of the file takes.

    Args:
        point_voxel, rows: [P], voxel and row of the points that take part, rows ascending.
        xyz: [N, 3], all points (m).
        nearest: the other points take the voxel of the nearest one that takes part; False, or without any: -1. What is
            no point (see `is_valid`) takes -1 always.
    """
    voxel = np.full(len(xyz), -1, np.int32)
    voxel[rows] = point_voxel
    if nearest and 0 < len(rows) < len(xyz):
        from scipy.spatial import cKDTree

        others = np.setdiff1d(np.flatnonzero(is_valid(xyz)), rows, assume_unique=True)
        _, neighbour = cKDTree(xyz[rows]).query(xyz[others])
        voxel[others] = point_voxel[neighbour]
    return voxel


@dataclass
class BatchPoints:
    """The points of all frames of a batch, one frame after the other: T in all.

    Attributes:
        voxel: int32 [T], row of the batch's voxels; -1 for none.
        seen, annotated, mixed, weak, labelled: bool [T], as in `FilePoints`.
        label: uint8 [T].
        sizes: points per frame.
        labelled_frames: frames with dense ground truth.
    """

    voxel: torch.Tensor
    seen: torch.Tensor
    annotated: torch.Tensor
    mixed: torch.Tensor
    weak: torch.Tensor
    label: torch.Tensor
    labelled: torch.Tensor
    sizes: list[int]
    labelled_frames: int

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> "BatchPoints":
        """The same with all tensors put through a function."""
        tensors: dict[str, Any] = {name: function(getattr(self, name)) for name in PER_POINT}
        return replace(self, **tensors)


def join_points(frames: Sequence[FilePoints], num_voxels: Sequence[int]) -> BatchPoints:
    """The points of the frames of a batch, whose samples have so many voxels."""
    begins = np.cumsum([0, *num_voxels[:-1]])
    voxel = [np.where(frame.voxel >= 0, frame.voxel + begin, -1) for frame, begin in zip(frames, begins, strict=True)]
    fields = {name: [getattr(frame, name) for frame in frames] for name in PER_POINT} | {"voxel": voxel}
    tensors: dict[str, Any] = {name: torch.from_numpy(np.concatenate(values)) for name, values in fields.items()}
    tensors["voxel"] = tensors["voxel"].int()
    return BatchPoints(
        **tensors,
        sizes=[len(frame) for frame in frames],
        labelled_frames=sum(bool(frame.labelled.any()) for frame in frames),
    )
