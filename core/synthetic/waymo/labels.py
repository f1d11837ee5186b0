"""Which class of Waymo's each surface of the city has."""

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.classes import CLASSES
from core.synthetic.ground import ASPHALT, CELL, GRASS, MARKING, PAVERS, SOIL, TILES, Ground
from core.synthetic.labels import LABEL
from core.synthetic.raycast import CYLINDER
from core.synthetic.scene import Scene
from core.synthetic.solids import BARK, Part, Thing

CLASS = {name: class_id for class_id, name in enumerate(CLASSES.names)}
_SIGN_REFLECTIVITY = 0.5
_CURB_WIDTH = 0.2  # metres
_OF_LABEL = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "movable_object.barrier": "building",
    "movable_object.trafficcone": "construction_cone",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "other_vehicle",
    "vehicle.trailer": "other_vehicle",
    "vehicle.truck": "truck",
}
_OF_MATERIAL = {
    ASPHALT: "road",
    MARKING: "lane_marker",
    TILES: "sidewalk",
    GRASS: "walkable",
    SOIL: "walkable",
    PAVERS: "other_ground",
}


def solid_classes(scene: Scene) -> NDArray[np.uint8]:
    """uint8 [S], class of each of the scene's solids."""
    return np.array([CLASS[_class(thing, part)] for thing in scene.things for part in thing.parts], np.uint8)


def ground_classes(ground: Ground) -> NDArray[np.uint8]:
    """uint8 [Y, X], class of each cell of the ground; the rim of the road beside anything else is curb."""
    table = np.zeros(max(_OF_MATERIAL) + 1, np.uint8)
    for material, name in _OF_MATERIAL.items():
        table[material] = CLASS[name]
    classes = table[ground.material]
    is_road = (ground.material == ASPHALT) | (ground.material == MARKING)
    inner = is_road.copy()
    for shift in range(1, round(_CURB_WIDTH / CELL) + 1):
        for axis in (0, 1):
            inner &= np.roll(is_road, shift, axis) & np.roll(is_road, -shift, axis)
    classes[is_road & ~inner] = CLASS["curb"]
    return classes


def _class(thing: Thing, part: Part) -> str:
    name = next(name for name, fine in LABEL.items() if fine == thing.label)
    if name in _OF_LABEL:
        return _OF_LABEL[name]
    if name == "vehicle.bicycle":  # what moves has a rider
        return "bicyclist" if thing.speed > 0 else "bicycle"
    if name == "vehicle.motorcycle":
        return "motorcyclist" if thing.speed > 0 else "motorcycle"
    if name == "static.vegetation":
        return "tree_trunk" if part.paint == BARK else "vegetation"
    if name == "static.manmade" and thing.parts[0].kind == CYLINDER:  # lamps, posts, signs
        return "sign" if part.reflectivity > _SIGN_REFLECTIVITY else "pole"
    return "building" if name == "static.manmade" else "ignored"
