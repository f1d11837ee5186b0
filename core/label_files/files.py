"""The files that the steps exchange: weak labels, superpixels, pseudo-labels, and their meta.json.

One file per frame, named by its token, written atomically. Each carries its token, its size
and the hash of what it was made with, so that a file of another frame, of other parameters, cut short or of another
format is told from a good one; the error names the file and the command that makes it anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.label_files.archive import FORMATS, check_identity, read_archive, write_archive
from core.label_files.errors import PSEUDO_LABEL, SUPERPIXEL, WEAK_LABEL, broken, foreign, label_path

# what readers and writers of these files need besides, for them to take from here
from core.label_files.errors import IMAGE_CACHE, BrokenFile, ForeignFile  # noqa: F401  # isort: skip
from core.label_files.meta import check_directory, describe, read_meta, write_meta  # noqa: F401  # isort: skip

ANNOTATED_IGNORED = 255
"""Value of `WeakLabel.sparse` for a point that was annotated and found to be of the ignored class."""

_WEAK_MEMBERS: dict[str, type] = {
    "sparse": np.uint8,
    "propagated": np.uint8,
    "component": np.int32,
    "candidates": np.uint32,
}


@dataclass(frozen=True)
class WeakLabel:
    """Labels of all N points of one key frame, in the order of its LiDAR file.

    Attributes:
        sparse: uint8 [N], class of an annotated point; 0 = not annotated; 255 = annotated, of the ignored class.
        propagated: uint8 [N], class of the point's component where that is of one class; 0 = none.
        component: int32 [N], id of the point's annotated component, 0..K-1; -1 = none.
        candidates: uint32 [K], per component: bit c is set where class c is a candidate; 0 where it has one class.
    """

    sparse: NDArray[np.uint8]
    propagated: NDArray[np.uint8]
    component: NDArray[np.int32]
    candidates: NDArray[np.uint32]

    @property
    def num_points(self) -> int:
        """N, the number of points in the LiDAR file."""
        return len(self.sparse)

    def point_candidates(self) -> NDArray[np.uint32]:
        """uint32 [N]: the candidate classes of each point as a bit mask; 0 where it has none."""
        table = np.append(self.candidates, np.uint32(0))  # the last entry serves component -1
        return table[self.component]


def write_weak_label(
    directory: str, token: str, label: WeakLabel, statistics: Mapping[str, Any], parameters_hash: str
) -> None:
    """Writes one frame's weak label with its statistics (JSON values); the same bytes for the same content."""
    header = _header(WEAK_LABEL, token, parameters_hash, num_points=label.num_points, statistics=dict(statistics))
    arrays = {name: getattr(label, name).astype(dtype, copy=False) for name, dtype in _WEAK_MEMBERS.items()}
    write_archive(label_path(directory, WEAK_LABEL, token), header, arrays)


def read_weak_label(
    directory: str, token: str, num_points: int | None = None, parameters_hash: str | None = None
) -> WeakLabel:
    """Reads one frame's weak label, checked to be of this frame, of `num_points` points and of `parameters_hash`.

    Raises BrokenFile or ForeignFile (both UserError), naming the file and the command that makes it anew.
    """
    path = label_path(directory, WEAK_LABEL, token)
    header, arrays = read_archive(path, WEAK_LABEL, _WEAK_MEMBERS)
    check_identity(path, WEAK_LABEL, header, token, parameters_hash)
    per_point = {name: array for name, array in arrays.items() if name != "candidates"}
    _check_lengths(path, WEAK_LABEL, header, num_points, per_point)
    label = WeakLabel(**arrays)
    component, num_components = label.component, len(label.candidates)
    if len(component) and (component.min() < -1 or component.max() >= num_components):
        raise broken(path, WEAK_LABEL, f"component ids should lie in -1..{num_components - 1}")
    return label


def read_weak_label_statistics(directory: str, token: str, parameters_hash: str | None = None) -> dict[str, Any]:
    """Reads the statistics stored in one frame's weak label, without reading the labels."""
    path = label_path(directory, WEAK_LABEL, token)
    header, _ = read_archive(path, WEAK_LABEL, {})
    check_identity(path, WEAK_LABEL, header, token, parameters_hash)
    return header["statistics"]


def write_superpixels(
    directory: str, token: str, cameras: Sequence[str], ids: NDArray[np.integer], parameters_hash: str
) -> None:
    """Writes the superpixel ids [K, H, W], 0..65535, of one frame's K images.

    Args:
        token: of the frame.
        cameras: tokens of its K images.
    """
    if ids.ndim != 3 or len(ids) != len(cameras) or ids.min(initial=0) < 0 or ids.max(initial=0) > 65535:
        raise ValueError("superpixel ids should be maps [K, H, W], one an image, of numbers from 0 to 65535")
    header = _header(SUPERPIXEL, token, parameters_hash, cameras=list(cameras), size=list(ids.shape[1:]))
    write_archive(label_path(directory, SUPERPIXEL, token), header, {"ids": ids.astype(np.uint16).reshape(-1)})


def read_superpixels(
    directory: str, token: str, cameras: Sequence[str], size: tuple[int, int], parameters_hash: str | None = None
) -> NDArray[np.uint16]:
    """Reads the superpixel ids uint16 [K, H, W] of one frame, checked to be of these images and of `size` = (H, W).

    Raises BrokenFile or ForeignFile (both UserError), naming the file and the command that makes it anew.
    """
    path = label_path(directory, SUPERPIXEL, token)
    header, arrays = read_archive(path, SUPERPIXEL, {"ids": np.uint16})
    check_identity(path, SUPERPIXEL, header, token, parameters_hash)
    if header.get("cameras") != list(cameras):
        raise broken(path, SUPERPIXEL, f"holds the images {header.get('cameras')}, the frame has {list(cameras)}")
    if header.get("size") != list(size):
        raise foreign(path, SUPERPIXEL, f"maps of {header.get('size')} pixels (H, W), expected {list(size)}")
    if arrays["ids"].size != len(cameras) * size[0] * size[1]:
        raise broken(path, SUPERPIXEL, f"'ids' has {arrays['ids'].size} pixels")
    return arrays["ids"].reshape(len(cameras), *size)


def write_pseudo_label(
    directory: str, token: str, label: NDArray[np.uint8], parameters_hash: str | None = None
) -> None:
    """Writes one frame's pseudo-labels: uint8 [N] for all points of its LiDAR file, 0 = none."""
    header = _header(PSEUDO_LABEL, token, parameters_hash, num_points=len(label))
    write_archive(label_path(directory, PSEUDO_LABEL, token), header, {"label": label.astype(np.uint8, copy=False)})


def read_pseudo_label(
    directory: str, token: str, num_points: int | None = None, parameters_hash: str | None = None
) -> NDArray[np.uint8]:
    """Reads one frame's pseudo-labels uint8 [N], checked as `read_weak_label` does."""
    path = label_path(directory, PSEUDO_LABEL, token)
    header, arrays = read_archive(path, PSEUDO_LABEL, {"label": np.uint8})
    check_identity(path, PSEUDO_LABEL, header, token, parameters_hash)
    _check_lengths(path, PSEUDO_LABEL, header, num_points, arrays)
    return arrays["label"]


def _check_lengths(
    path: str, kind: str, header: Mapping[str, Any], num_points: int | None, arrays: Mapping[str, NDArray[Any]]
) -> None:
    expected = header.get("num_points") if num_points is None else num_points
    for name, array in arrays.items():
        if len(array) != expected:
            raise broken(path, kind, f"'{name}' has {len(array)} points, expected {expected}")


def _header(kind: str, token: str, parameters: str | None, **content: Any) -> dict[str, Any]:
    return {"kind": kind, "format": FORMATS[kind], "token": token, "parameters": parameters, **content}
