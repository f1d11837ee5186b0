"""The 19 classes of SemanticKITTI's single-scan benchmark, and its raw labels both ways."""

import numpy as np

from core.datasets.frame import ClassTable

# class id: name, RGB, the raw labels that it takes in (those of moving things too); the first goes into submissions
_CLASSES: tuple[tuple[str, tuple[int, int, int], tuple[int, ...]], ...] = (
    ("ignored", (0, 0, 0), (0, 1, 52, 99)),
    ("car", (100, 150, 245), (10, 252)),
    ("bicycle", (100, 230, 245), (11,)),
    ("motorcycle", (30, 60, 150), (15,)),
    ("truck", (80, 30, 180), (18, 258)),
    ("other-vehicle", (0, 0, 255), (20, 13, 16, 256, 257, 259)),
    ("person", (255, 30, 30), (30, 254)),
    ("bicyclist", (255, 40, 200), (31, 253)),
    ("motorcyclist", (150, 30, 90), (32, 255)),
    ("road", (255, 0, 255), (40, 60)),
    ("parking", (255, 150, 255), (44,)),
    ("sidewalk", (75, 0, 75), (48,)),
    ("other-ground", (175, 0, 75), (49,)),
    ("building", (255, 200, 0), (50,)),
    ("fence", (255, 120, 50), (51,)),
    ("vegetation", (0, 175, 0), (70,)),
    ("trunk", (135, 60, 0), (71,)),
    ("terrain", (150, 240, 80), (72,)),
    ("pole", (255, 240, 150), (80,)),
    ("traffic-sign", (255, 0, 0), (81,)),
)


CLASSES = ClassTable.of(_CLASSES, things=range(1, 9), to_raw=np.array([raw[0] for _, _, raw in _CLASSES], np.uint16))
