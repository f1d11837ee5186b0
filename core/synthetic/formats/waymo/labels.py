"""Which class of Waymo's each surface of the city has."""

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.classes import CLASSES
from core.synthetic.ground import CELL, GROUND_LABEL, Ground
from core.synthetic.labels import KIND, kind_table

CLASS = {name: class_id for class_id, name in enumerate(CLASSES.names)}
_CURB_WIDTH = 0.2  # metres
_KINDS = {
    "ignored": ("sky", "own_vehicle", "debris", "rubbish"),
    "car": ("car",),
    "truck": ("truck",),
    "bus": ("bus",),
    "other_vehicle": ("excavator", "trailer"),
    "motorcyclist": ("motorcyclist",),
    "bicyclist": ("bicyclist",),
    "pedestrian": ("adult", "child", "construction_worker"),
    "sign": ("sign",),
    "pole": ("lamp", "post", "sign_pole"),
    "construction_cone": ("traffic_cone",),
    "bicycle": ("bicycle",),
    "motorcycle": ("motorcycle",),
    "building": ("barrier", "building", "kiosk", "wall"),
    "vegetation": ("leaves",),
    "tree_trunk": ("trunk",),
    "road": ("parking", "road"),
    "lane_marker": ("marking",),
    "other_ground": ("paving",),
    "walkable": ("grass", "soil"),
    "sidewalk": ("sidewalk",),
}
OF_KIND = np.array(kind_table({CLASS[name]: kinds for name, kinds in _KINDS.items()}), np.uint8)
"""Class of each kind of the city. Traffic lights there are none; curb is the rim of the road."""


def ground_classes(ground: Ground) -> NDArray[np.uint8]:
    """uint8 [Y, X], class of each cell of the ground; the rim of the road beside anything else is curb."""
    kinds = GROUND_LABEL[ground.material]
    is_road = np.isin(kinds, [KIND[name] for name in ("road", "marking", "parking")])
    inner = is_road.copy()
    for shift in range(1, round(_CURB_WIDTH / CELL) + 1):
        for axis in (0, 1):
            inner &= np.roll(is_road, shift, axis) & np.roll(is_road, -shift, axis)
    return np.where(is_road & ~inner, np.uint8(CLASS["curb"]), OF_KIND[kinds])
