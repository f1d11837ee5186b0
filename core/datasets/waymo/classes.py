"""The classes of Waymo's 3D semantic segmentation, and the benchmark's score."""

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import ClassTable

# class id (the files' own): name, RGB
_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
    ("ignored", (0, 0, 0)),  # "undefined" in the files
    ("car", (0, 90, 220)),
    ("truck", (30, 30, 140)),
    ("bus", (0, 140, 200)),
    ("other_vehicle", (90, 110, 160)),
    ("motorcyclist", (255, 90, 160)),
    ("bicyclist", (255, 120, 60)),
    ("pedestrian", (220, 20, 60)),
    ("sign", (235, 210, 0)),
    ("traffic_light", (250, 170, 30)),
    ("pole", (150, 150, 150)),
    ("construction_cone", (255, 100, 0)),
    ("bicycle", (120, 15, 40)),
    ("motorcycle", (190, 40, 190)),
    ("building", (222, 184, 135)),
    ("vegetation", (0, 150, 0)),
    ("tree_trunk", (110, 75, 40)),
    ("curb", (196, 120, 196)),
    ("road", (0, 190, 180)),
    ("lane_marker", (130, 230, 220)),
    ("other_ground", (160, 90, 60)),
    ("walkable", (140, 200, 90)),
    ("sidewalk", (120, 40, 140)),
)
THINGS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13)

CLASSES = ClassTable(
    names=tuple(name for name, _ in _CLASSES),
    things=THINGS,
    colors=np.array([color for _, color in _CLASSES], np.uint8),
    from_raw=np.arange(len(_CLASSES), dtype=np.uint8),
)


def benchmark_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class by the benchmark's rule: a class that neither labels nor predictions hold scores 1.

    Points whose label is undefined (0) do not count; predicting undefined is a miss. The benchmark's score is the mean
    over the 22 classes.

    Args:
        confusion: counts [C, C]: row = label, column = prediction, of the points of both returns.
    Returns float64 [C], NaN for class 0.
    """
    counted = confusion.astype(np.float64)
    counted[0] = 0
    hits = np.diag(counted)
    union = counted.sum(0) + counted.sum(1) - hits
    iou = np.where(union > 0, hits / np.maximum(union, 1), 1.0)
    iou[0] = np.nan
    return iou
