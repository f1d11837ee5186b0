"""Weak labels as one would write them down from the paper, with numpy, Open3D and the package hdbscan.

What core/labeling is measured against and compared with: it shares no code with it. A mask over all points for every
polar cell, Open3D's RANSAC, the package's HDBSCAN, a loop over the components.
"""

from dataclasses import dataclass
from typing import Any

import hdbscan
import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from core.datasets.frame import ClassTable, Frame

NUM_SWEEPS = 5
MANMADE = 15
Array = NDArray[Any]


@dataclass
class KeyFrame:
    """A key frame as it is read: points float32 [N, 4], classes uint8 [N], whether a camera sees them bool [N]."""

    points: Array
    labels: Array
    in_view: Array


def read_key_frame(frame: Frame, classes: ClassTable) -> KeyFrame:
    """Points and classes of a nuScenes key frame, and which of the points a camera sees."""
    points = np.fromfile(frame.lidar_path, np.float32).reshape(-1, 5)[:, :4]
    assert frame.label_path is not None, "weak labels are made from dense ones"
    labels = classes.from_raw[np.fromfile(frame.label_path, np.uint8)]
    homogeneous = np.concatenate([points[:, :3], np.ones((len(points), 1))], 1)
    in_view = np.zeros(len(points), bool)
    for camera in frame.cameras:
        projected = homogeneous @ camera.lidar_to_image.T
        depth = projected[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            u, v = projected[:, 0] / depth, projected[:, 1] / depth
        in_view |= (depth > 1) & (u > 0) & (u < camera.width - 1) & (v > 0) & (v < camera.height - 1)
    return KeyFrame(points, labels, in_view)


def gather(frame: Frame) -> Array:
    """[M, 3], the points of the earlier sweeps in the key frame's sensor frame (m)."""
    gathered = [np.empty((0, 3))]
    for sweep in frame.sweeps[:NUM_SWEEPS]:
        points = np.fromfile(sweep.path, np.float32).reshape(-1, 5)[:, :3]
        own_vehicle = (np.abs(points[:, 0]) < 1) & (np.abs(points[:, 1]) < 1)
        points = points[~own_vehicle]
        homogeneous = np.concatenate([points, np.ones((len(points), 1))], 1)
        gathered.append((homogeneous @ sweep.to_key.T)[:, :3])
    return np.concatenate(gathered)


def ground(key_points: Array, sweep_points: Array) -> Array:
    """int [N], the ground component of each key point, -1 = not ground."""
    points = np.concatenate([key_points[:, :3], sweep_points])
    is_key = np.arange(len(points)) < len(key_points)
    radius, angle = np.sqrt(points[:, 0] ** 2 + points[:, 1] ** 2), np.arctan2(points[:, 1], points[:, 0])
    cell_of_point = np.round(np.stack([radius / 5.0, angle / (0.1 * np.pi)], 1)).astype(int)
    cell_of_point[cell_of_point[:, 1] == 10, 1] = -10
    cell_of_point -= cell_of_point.min(0)
    component = np.full(len(points), -1)
    num_components = 0
    for cell in np.unique(cell_of_point, axis=0):
        in_cell = (cell_of_point == cell).all(1)
        threshold = 0.95 if cell[0] < 2 and cell[1] in (4, 5) else 0.75
        inliers = ground_of_cell(points[in_cell], threshold)
        if inliers is None:
            continue
        rows = np.where(in_cell)[0][inliers]
        if is_key[rows].any():
            component[rows] = num_components
            num_components += 1
    return component[is_key]


def ground_of_cell(points: Array, threshold: float) -> Array | None:
    """bool [n], the ground among the points of one cell; None where there is none."""
    z = points[:, 2]
    candidate = z <= z.mean() if z.std() >= 0.75 else np.ones(len(points), bool)
    num_candidates = candidate.sum()
    for attempt in range(3):
        if candidate.sum() <= 100:
            return None
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[candidate]))
        plane, _ = cloud.segment_plane(distance_threshold=0.2, ransac_n=10, num_iterations=1000)
        inlier = np.abs(points @ plane[:3] + plane[3]) < 0.2
        if attempt == 0 and inlier.sum() < 0.5 * num_candidates:
            return None
        few_outliers = (~inlier).sum() <= round(0.1 * len(points))
        if abs(plane[2]) > threshold and (few_outliers or z[inlier].mean() <= z[~inlier].mean()):
            return inlier
        candidate &= ~inlier
    return None


def clusters(points: Array) -> Array:
    """int [n], the cluster of each point, -1 = noise."""
    clusterer = hdbscan.HDBSCAN(min_cluster_size=5, cluster_selection_epsilon=0.5, core_dist_n_jobs=1)
    return clusterer.fit_predict(points)


@dataclass
class PlainLabel:
    """The weak label of a frame's N points: uint8 [N] annotated class (255 = the ignored one), uint8 [N] propagated
    class, int32 [N] component, and the candidate classes of components with several; shares of sparse labels (of all
    points), of propagated and negative ones (of the points in view)."""

    sparse: Array
    propagated: Array
    component: Array
    candidates: dict[int, list[int]]
    shares: dict[str, float]


def annotate(
    frame: KeyFrame, component: Array, num_ground: int, classes: ClassTable, rng: np.random.Generator
) -> PlainLabel:
    """Annotates a point of each class in each component of the points in view; `component` int [points in view]."""
    seen = np.where(frame.in_view)[0]
    num_points = len(frame.points)
    sparse, propagated = np.zeros(num_points, np.uint8), np.zeros(num_points, np.uint8)
    component_of_point = np.full(num_points, -1, np.int32)
    candidates: dict[int, list[int]] = {}
    num_kept, num_negative = 0, 0
    for number in range(component.max() + 1):
        rows = seen[component == number]
        remaining = remaining_classes(frame.labels[rows], number < num_ground, classes.things)
        if not remaining:
            continue
        for label in remaining:
            point = rng.choice(rows[frame.labels[rows] == label])
            sparse[point] = label if label > 0 else 255
        if len(remaining) == 1:
            propagated[rows] = remaining[0]
        else:
            candidates[num_kept] = remaining
            num_negative += len(rows)
        component_of_point[rows] = num_kept
        num_kept += 1
    num_seen = max(len(seen), 1)
    shares = {
        "sparse": (sparse > 0).sum() / num_points,
        "propagated": (propagated > 0).sum() / num_seen,
        "negative": num_negative / num_seen,
    }
    return PlainLabel(sparse, propagated, component_of_point, candidates, shares)


def remaining_classes(labels: Array, is_ground: bool, things: tuple[int, ...]) -> list[int]:
    """The classes of one component that the annotator sees; none where it is skipped."""
    present, counts = np.unique(labels, return_counts=True)
    if set(present) == {0}:
        return []
    if is_ground:
        return present.tolist()
    things_here = [c for c in present if c in things]
    if len(labels) < (5 if things_here else 10 if MANMADE in present else 20):
        return []
    majority = present[counts.argmax()]
    if not things_here:
        rare = 0.01
    elif len(things_here) == 1 and majority in things:
        rare = 0.1
    else:
        rare = 0.001
    return [int(c) for c, count in zip(present, counts, strict=True) if count / len(labels) > rare]


def write(path: str, label: PlainLabel) -> None:
    """Writes the label as a compressed archive."""
    np.savez_compressed(
        path,
        sparse=label.sparse,
        propagated=label.propagated,
        component=label.component,
        candidates=np.array(
            [sum(1 << c for c in label.candidates.get(k, [])) for k in range(label.component.max() + 1)]
        ),
    )


def pre_segment(seen: Array, sweep_points: Array) -> tuple[Array, int]:
    """int [N], ground components of the points [N, 3] in view, then clusters, -1 = none; the number of the former."""
    component = ground(seen, sweep_points)
    num_ground = component.max(initial=-1) + 1
    rest = component < 0
    cluster = clusters(seen[rest])
    component[rest] = np.where(cluster >= 0, cluster + num_ground, -1)
    return component, num_ground


def label_frame(frame: Frame, classes: ClassTable, seed: int) -> PlainLabel:
    """The weak label of one frame."""
    o3d.utility.random.seed(seed)
    key_frame = read_key_frame(frame, classes)
    seen = key_frame.points[key_frame.in_view, :3].astype(np.float64)
    component, num_ground = pre_segment(seen, gather(frame))
    return annotate(key_frame, component, num_ground, classes, np.random.default_rng(seed))
