"""The weak label of one frame (paper, section "pre-segmentation and annotation")."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import ClassTable, Frame
from core.datasets.voxelize import voxelize
from core.label_files.files import WeakLabel
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate
from core.labeling.annotation.statistics import FrameStatistics, frame_statistics
from core.labeling.clusters import check_hdbscan, find_clusters
from core.labeling.ground.ground import find_ground
from core.labeling.ground.plane import import_open3d, plane_fitter
from core.running.compiled import njit


def check_packages(parameters: WeakLabelParameters) -> dict[str, Any]:
    """What of the packages the components depend on, for meta.json; UserError where one does not import."""
    if parameters.plane_fitter == "open3d":
        import_open3d()
    plane_fitter(parameters.plane_fitter)
    return check_hdbscan()


def make_weak_label(
    points: NDArray[np.floating],
    sweeps: NDArray[np.floating],
    in_view: NDArray[np.bool_],
    labels: NDArray[np.uint8],
    classes: ClassTable,
    parameters: WeakLabelParameters,
    rng: np.random.Generator,
) -> tuple[WeakLabel, FrameStatistics]:
    """Pre-segments a key frame and annotates its components.

    Args:
        points: [N, >= 3], x, y, z (m) of the key frame, its sensor frame.
        sweeps: [M, >= 3], earlier sweeps in the same frame (see `gather_sweeps`).
        in_view: bool [N], the points to annotate (those that a camera sees, or all); the others get no label.
        labels: uint8 [N], dense classes, from which the annotator is simulated.
    """
    seen = np.flatnonzero(in_view)
    component, num_ground = pre_segment(points[seen, :3], sweeps, parameters, rng)
    seen_label = annotate(component, num_ground, labels[seen], classes.num_classes, classes.things, parameters, rng)
    label = spread(seen_label, seen, len(points))
    return label, frame_statistics(label, in_view, labels, classes.num_classes)


def pre_segment(
    xyz: NDArray[np.floating],
    sweeps: NDArray[np.floating],
    parameters: WeakLabelParameters,
    rng: np.random.Generator,
    thin: float = 0.0,
) -> tuple[NDArray[np.int32], int]:
    """Splits points into ground components and clusters.

    Args:
        xyz: [N, 3] (m), the points to annotate.
        sweeps: [M, >= 3], earlier sweeps in the same frame.
        thin: edge of the voxels of which one point each is clustered, and the others with it (m); 0: every point is.

    Returns:
        int32 [N], ground components first, then clusters, -1 = none; and the number of ground components.
    """
    component = find_ground(xyz, sweeps, parameters, rng)
    num_ground = int(component.max(initial=-1)) + 1
    rest = np.flatnonzero(component < 0)
    if thin > 0:
        voxels = voxelize(xyz[rest], thin)
        cluster = find_clusters(xyz[rest[voxels.representative]], parameters.clusterer)[voxels.point_voxel]
    else:
        cluster = find_clusters(xyz[rest], parameters.clusterer)
    component[rest] = np.where(cluster >= 0, cluster + num_ground, -1)
    return component, num_ground


def spread(label: WeakLabel, rows: NDArray[np.int64], num_points: int) -> WeakLabel:
    """The label of all `num_points` points, given that of the points `rows`."""
    sparse, propagated = np.zeros(num_points, np.uint8), np.zeros(num_points, np.uint8)
    component = np.full(num_points, -1, np.int32)
    sparse[rows], propagated[rows], component[rows] = label.sparse, label.propagated, label.component
    return WeakLabel(sparse, propagated, component, label.candidates)


def gather_sweeps(reader: Reader, frame: Frame, parameters: WeakLabelParameters) -> NDArray[np.float64]:
    """The points of the nearest earlier sweeps in the key frame's sensor frame, float64 [M, 3] (m), nearest first.

    Points on the own vehicle are dropped: a box around each sweep's own sensor. The start of a recording has fewer.
    """
    sweeps = frame.sweeps[: parameters.num_sweeps]
    clouds = [reader.load_sweep(sweep) for sweep in sweeps]
    gathered, count = np.empty((sum(map(len, clouds)), 3)), 0
    for sweep, cloud in zip(sweeps, clouds, strict=True):
        count += _move_outside(cloud, parameters.own_vehicle_box, sweep.to_key, gathered[count:])
    return gathered[:count]


@njit(cache=True, nogil=True)
def _move_outside(points, box, transform, moved):  # type: ignore[no-untyped-def]
    """Transforms the points [n, >= 3] with |x| or |y| of `box` at least into the rows of `moved`; their number."""
    count = 0
    for i in range(len(points)):
        x, y, z = np.float64(points[i, 0]), np.float64(points[i, 1]), np.float64(points[i, 2])
        if abs(x) >= box or abs(y) >= box:
            for axis in range(3):
                rotated = transform[axis, 0] * x + transform[axis, 1] * y + transform[axis, 2] * z
                moved[count, axis] = rotated + transform[axis, 3]
            count += 1
    return count


def read_key_frame(reader: Reader, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Points float32 [N, 4] and dense classes uint8 [N] of a frame; and bool [N], the points to annotate."""
    points = reader.load_points(frame)
    labels = reader.load_labels(frame, len(points))
    return points, labels, reader.annotated(frame, points)


def label_frame(
    reader: Reader, frame: Frame, parameters: WeakLabelParameters, seed: int
) -> tuple[WeakLabel, FrameStatistics]:
    """Reads one frame and makes its weak label; the result depends on the frame, the parameters and the seed only."""
    points, labels, in_view = read_key_frame(reader, frame)
    sweeps = gather_sweeps(reader, frame, parameters)
    rng = np.random.default_rng([seed, zlib.crc32(frame.token.encode())])
    return make_weak_label(points, sweeps, in_view, labels, reader.classes, parameters, rng)
