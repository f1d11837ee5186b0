"""nuScenes' 32 fine classes, by the names and in the order of its tables."""

import numpy as np

from core.synthetic.labels import kind_table

CATEGORIES = (
    "noise",
    "animal",
    "human.pedestrian.adult",
    "human.pedestrian.child",
    "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility",
    "human.pedestrian.police_officer",
    "human.pedestrian.stroller",
    "human.pedestrian.wheelchair",
    "movable_object.barrier",
    "movable_object.debris",
    "movable_object.pushable_pullable",
    "movable_object.trafficcone",
    "static_object.bicycle_rack",
    "vehicle.bicycle",
    "vehicle.bus.bendy",
    "vehicle.bus.rigid",
    "vehicle.car",
    "vehicle.construction",
    "vehicle.emergency.ambulance",
    "vehicle.emergency.police",
    "vehicle.motorcycle",
    "vehicle.trailer",
    "vehicle.truck",
    "flat.driveable_surface",
    "flat.other",
    "flat.sidewalk",
    "flat.terrain",
    "static.manmade",
    "static.other",
    "static.vegetation",
    "vehicle.ego",
)
LABEL = {name: index for index, name in enumerate(CATEGORIES)}  # name -> fine id

_KINDS = {
    "noise": ("sky",),
    "human.pedestrian.adult": ("adult",),
    "human.pedestrian.child": ("child",),
    "human.pedestrian.construction_worker": ("construction_worker",),
    "movable_object.barrier": ("barrier",),
    "movable_object.debris": ("debris",),
    "movable_object.trafficcone": ("traffic_cone",),
    "vehicle.bicycle": ("bicycle", "bicyclist"),
    "vehicle.bus.rigid": ("bus",),
    "vehicle.car": ("car",),
    "vehicle.construction": ("excavator",),
    "vehicle.motorcycle": ("motorcycle", "motorcyclist"),
    "vehicle.trailer": ("trailer",),
    "vehicle.truck": ("truck",),
    "flat.driveable_surface": ("road", "marking", "parking"),
    "flat.other": ("paving",),
    "flat.sidewalk": ("sidewalk",),
    "flat.terrain": ("grass", "soil"),
    "static.manmade": ("building", "wall", "post", "kiosk", "lamp", "sign", "sign_pole"),
    "static.other": ("rubbish",),
    "static.vegetation": ("trunk", "leaves"),
    "vehicle.ego": ("own_vehicle",),
}
FINE = np.array(kind_table({LABEL[name]: kinds for name, kinds in _KINDS.items()}), dtype=np.uint8)
"""Fine id of each kind of the city."""
