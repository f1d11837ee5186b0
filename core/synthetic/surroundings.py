"""What stands still beside the road: buildings, walls, posts, lamps, trees, bushes and hedges."""

import numpy as np

from core.synthetic.labels import KIND
from core.synthetic.raycast import CYLINDER, ELLIPSOID
from core.synthetic.solids import BARK, CONCRETE, FACADE, FOLIAGE, Part, Thing, Vector, box

Rng = np.random.Generator
_FACADES = (
    (0.62, 0.55, 0.46),
    (0.70, 0.68, 0.64),
    (0.50, 0.34, 0.27),
    (0.48, 0.52, 0.56),
    (0.68, 0.60, 0.42),
    (0.38, 0.40, 0.44),
)
_GREY: Vector = (0.45, 0.45, 0.46)


def building(rng: Rng, x: tuple[float, float], front: float, side: int, depth: float) -> Thing:
    """A house over x[0]..x[1] whose front stands at y = side * front, with a canopy and a rooftop box."""
    width, height = x[1] - x[0], float(rng.choice([6.6, 9.8, 13.0, 16.2, 19.4, 25.8]))
    color = _FACADES[int(rng.integers(len(_FACADES)))]
    shine = float(rng.uniform(0.06, 0.2))
    middle = (x[0] + x[1]) / 2
    roof = (middle + width * 0.1, side * (front + depth * 0.6), height + 1.1)
    parts = [
        box(
            (middle, side * (front + depth / 2), height / 2), (width, depth, height), color, FACADE, reflectivity=shine
        ),
        box(roof, (width * 0.4, depth * 0.4, 2.2), _GREY, CONCRETE, reflectivity=0.1),
    ]
    if rng.random() < 0.6:
        canopy = (float(rng.uniform(0.3, 0.7)) * width, 1.2, 0.25)
        place = (middle, side * (front - 0.6), 3.1)
        parts.append(box(place, canopy, (0.3, 0.28, 0.27), CONCRETE, reflectivity=0.12))
    for corner in (x[0] + 0.4, x[1] - 0.4):  # pillars that stand out a little
        place = (corner, side * (front - 0.15), height / 2)
        parts.append(box(place, (0.8, 0.5, height), color, CONCRETE, reflectivity=shine))
    return Thing(KIND["building"], tuple(parts))


def wall(x: tuple[float, float], y: float, height: float) -> Thing:
    """A grey wall along x, as grey as a concrete barrier."""
    size = (x[1] - x[0], 0.3, height)
    part = box(((x[0] + x[1]) / 2, y, height / 2), size, (0.52, 0.51, 0.49), CONCRETE, reflectivity=0.14)
    return Thing(KIND["wall"], (part,))


def post(x: float, y: float) -> Thing:
    """A grey post as high as a child."""
    return Thing(KIND["post"], (Part(CYLINDER, (x, y, 0.6), (0.12, 0.12, 0.6), _GREY, CONCRETE, reflectivity=0.12),))


def kiosk(rng: Rng, x: float, y: float) -> Thing:
    """A small box: a bus shelter, a switch cabinet, a newsstand."""
    size = (float(rng.uniform(1.0, 2.6)), float(rng.uniform(0.8, 1.4)), float(rng.uniform(1.4, 2.5)))
    color = ((0.2, 0.33, 0.30), (0.45, 0.45, 0.46), (0.42, 0.28, 0.2))[int(rng.integers(3))]
    return Thing(KIND["kiosk"], (box((x, y, size[2] / 2), size, color, CONCRETE, reflectivity=0.14),))


def lamp(x: float, y: float, towards: float) -> Thing:
    """A street lamp whose arm reaches `towards` metres along y."""
    parts = (
        Part(CYLINDER, (x, y, 3.6), (0.1, 0.1, 3.6), _GREY, reflectivity=0.2),
        box((x, y + towards / 2, 7.15), (0.12, abs(towards), 0.1), _GREY, reflectivity=0.2),
        box((x, y + towards, 7.1), (0.3, 0.7, 0.14), (0.7, 0.7, 0.68), reflectivity=0.2),
    )
    return Thing(KIND["lamp"], parts)


def sign(rng: Rng, x: float, y: float) -> Thing:
    """A traffic sign on a thin pole."""
    color = ((0.75, 0.1, 0.1), (0.1, 0.2, 0.65), (0.85, 0.7, 0.1))[int(rng.integers(3))]
    parts = (
        Part(CYLINDER, (x, y, 1.3), (0.05, 0.05, 1.3), _GREY, reflectivity=0.3, label=KIND["sign_pole"]),
        box((x, y, 2.45), (0.06, 0.7, 0.7), color, reflectivity=0.9),
    )
    return Thing(KIND["sign"], parts)


def tree(rng: Rng, x: float, y: float, scale: float = 1.0) -> Thing:
    """A trunk under a crown of three to five ragged blobs."""
    trunk = float(rng.uniform(1.5, 2.3)) * scale
    color = _leaf(rng)
    radius = float(rng.uniform(0.11, 0.2)) * scale
    center, half = (x, y, trunk / 2 + 0.5), (radius, radius, trunk / 2 + 0.5)
    parts = [Part(CYLINDER, center, half, (0.30, 0.22, 0.16), BARK, 0.12, 0.02, label=KIND["trunk"])]
    for _ in range(int(rng.integers(3, 6))):
        away, angle = float(rng.uniform(0.2, 0.9)) * scale, float(rng.uniform(0, 2 * np.pi))
        wide = float(rng.uniform(0.9, 1.45)) * scale
        flat = wide * float(rng.uniform(0.7, 1.1))
        lift = trunk + 0.75 * flat + float(rng.uniform(0.0, 1.2)) * scale
        center = (x + away * np.cos(angle), y + away * np.sin(angle), lift)
        parts.append(_foliage(center, (wide, wide, flat), color, 0.3))
    return Thing(KIND["leaves"], tuple(parts))


def bush(rng: Rng, x: float, y: float) -> Thing:
    """A ragged half-dome on the ground, as green as grass."""
    half = (float(rng.uniform(0.5, 1.1)), float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.5, 1.1)))
    return Thing(KIND["leaves"], (_foliage((x, y, 0.55 * half[2]), half, _leaf(rng), 0.2),))


def hedge(rng: Rng, x: tuple[float, float], y: float, height: float) -> Thing:
    """A row of bushes grown together."""
    color, parts = _leaf(rng), []
    for at in np.arange(x[0], x[1], 1.4):
        half = (1.0, float(rng.uniform(0.6, 0.9)), 0.62 * height * float(rng.uniform(0.85, 1.15)))
        parts.append(_foliage((float(at) + 0.7, y, 0.45 * height), half, color, 0.15))
    return Thing(KIND["leaves"], tuple(parts))


def _leaf(rng: Rng) -> Vector:
    green = float(rng.uniform(0.30, 0.46))
    return green * float(rng.uniform(0.62, 0.95)), green, green * float(rng.uniform(0.3, 0.5))


def _foliage(center: Vector, half: Vector, color: Vector, porosity: float) -> Part:
    return Part(ELLIPSOID, center, half, color, FOLIAGE, reflectivity=0.1, roughness=0.12, porosity=porosity)
