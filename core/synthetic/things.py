"""Things: vehicles, people and what stands about on a street, in characteristic shapes.

Bus, truck and trailer share one shape: only their paint tells them apart. A grey barrier and a low wall, a walker
in grey and a post share their colour: only their shape tells them apart.
"""

from dataclasses import replace

import numpy as np

from core.synthetic.labels import KIND
from core.synthetic.raycast import BOX, CONE, CYLINDER, ELLIPSOID
from core.synthetic.solids import (
    BANDS,
    BUS,
    CAR,
    CONCRETE,
    CONE_BANDS,
    GLASS,
    TRAILER,
    TRUCK,
    WHEEL,
    Part,
    Thing,
    Vector,
    box,
)

Rng = np.random.Generator
_BLACK = (0.05, 0.05, 0.06)
_GREY = (0.45, 0.45, 0.46)
_CAR_COLORS = (
    (0.75, 0.76, 0.78),
    (0.82, 0.82, 0.80),
    (0.13, 0.13, 0.14),
    (0.35, 0.37, 0.40),
    (0.55, 0.08, 0.07),
    (0.10, 0.18, 0.42),
    (0.12, 0.25, 0.18),
)
_CLOTHES = ((0.15, 0.18, 0.35), (0.45, 0.45, 0.46), (0.5, 0.12, 0.12), (0.75, 0.7, 0.6), (0.12, 0.12, 0.13))


def _pick(rng: Rng, colors: tuple[Vector, ...]) -> Vector:
    return colors[int(rng.integers(len(colors)))]


def _wheel(x: float, y: float, radius: float, width: float, reflectivity: float = 0.04) -> Part:
    """A disc that rolls along x."""
    half = (radius, radius, width / 2)
    angles = (0.0, 0.0, np.pi / 2)
    return Part(CYLINDER, (x, y, radius), half, (0.5, 0.5, 0.52), WHEEL, reflectivity=reflectivity, angles=angles)


def _four_wheels(length: float, width: float, radius: float) -> tuple[Part, ...]:
    ends, sides = (-0.31 * length, 0.31 * length), (-0.5 * width + 0.11, 0.5 * width - 0.11)
    return tuple(_wheel(x, y, radius, 0.24) for x in ends for y in sides)


def car(rng: Rng) -> Thing:
    """A saloon, a hatchback or a van: body, cabin, four wheels."""
    length, width, height = rng.uniform(4.0, 4.9), rng.uniform(1.75, 1.95), rng.uniform(1.45, 1.75)
    color = _pick(rng, _CAR_COLORS)
    cabin = (rng.uniform(0.5, 0.62) * length, 0.86 * width, height - 0.9)
    gloss, back = float(rng.uniform(0.08, 0.3)), -0.05 * length
    glass = (back, 0.0, 0.9 + cabin[2] / 2 - 0.04)
    parts = (
        box((0.0, 0.0, 0.6), (length, width, 0.64), color, CAR, reflectivity=gloss),
        box(glass, (*cabin[:2], cabin[2] - 0.08), (0.15, 0.18, 0.22), GLASS, reflectivity=0.05),
        box((back, 0.0, height - 0.05), (0.92 * cabin[0], 0.95 * cabin[1], 0.1), color, CAR, reflectivity=gloss),
        *_four_wheels(length, width, 0.32),
    )
    return Thing(KIND["car"], parts, (length, width, height))


def long_vehicle(rng: Rng, kind: str) -> Thing:
    """A bus, a truck or a trailer: one shape, three paints.

    Args:
        kind: "bus", "truck" or "trailer".
    """
    paint, colors = {
        "bus": (BUS, ((0.78, 0.12, 0.08), (0.82, 0.55, 0.05))),
        "truck": (TRUCK, ((0.85, 0.85, 0.83), (0.70, 0.78, 0.88))),
        "trailer": (TRAILER, ((0.10, 0.28, 0.16), (0.14, 0.22, 0.30))),
    }[kind]
    length, width, height = rng.uniform(7.5, 10.5), rng.uniform(2.4, 2.6), rng.uniform(3.0, 3.5)
    center, size = (0.0, 0.0, 0.55 + (height - 0.55) / 2), (length, width, height - 0.55)
    body = box(center, size, _pick(rng, colors), paint, reflectivity=float(rng.uniform(0.08, 0.25)))
    return Thing(KIND[kind], (body, *_four_wheels(length, width, 0.48)), (length, width, height))


def construction_vehicle(rng: Rng) -> Thing:
    """An excavator: tracks, cabin, counterweight, two arm pieces and a bucket."""
    yellow = (0.85, 0.58, 0.05) if rng.random() < 0.7 else (0.88, 0.40, 0.06)
    swing = float(rng.uniform(-0.3, 0.3))
    parts = [box((0.0, side, 0.45), (3.8, 0.55, 0.9), (0.12, 0.11, 0.1), reflectivity=0.05) for side in (-1.0, 1.0)]
    parts += [
        box((-0.6, 0.0, 1.35), (2.9, 2.3, 0.9), yellow, reflectivity=0.2),
        box((-1.7, 0.0, 1.9), (0.9, 2.2, 1.0), yellow, reflectivity=0.2),
        box((0.5, 0.6, 2.2), (1.3, 1.0, 1.5), (0.2, 0.24, 0.26), GLASS, reflectivity=0.08),
        Part(BOX, (1.9, -0.2, 2.8), (1.7, 0.2, 0.25), yellow, reflectivity=0.2, angles=(swing * 0.2, -0.75, 0.0)),
        Part(BOX, (3.6, -0.2, 2.6), (1.5, 0.17, 0.2), yellow, reflectivity=0.2, angles=(swing * 0.2, 1.15, 0.0)),
        box((3.9, -0.2, 0.9), (0.8, 1.1, 0.9), (0.25, 0.22, 0.2), reflectivity=0.1),
    ]
    middle = tuple(replace(part, center=(part.center[0] - 1.1, *part.center[1:])) for part in parts)
    return Thing(KIND["excavator"], middle, (6.6, 2.6, 4.1))


def bicycle(rng: Rng, rider: bool) -> Thing:
    """Two thin wheels, a frame, a saddle; with a rider who belongs to it."""
    color = _pick(rng, ((0.7, 0.1, 0.1), (0.1, 0.35, 0.6), (0.12, 0.12, 0.13)))
    parts = [_wheel(x, 0.0, 0.36, 0.05, 0.12) for x in (-0.52, 0.52)]
    parts += [
        box((0.0, 0.0, 0.62), (0.75, 0.05, 0.10), color, reflectivity=0.15),
        Part(BOX, (0.2, 0.0, 0.5), (0.4, 0.03, 0.04), color, reflectivity=0.15, angles=(0.0, 0.6, 0.0)),
        box((-0.25, 0.0, 0.9), (0.25, 0.12, 0.08), _BLACK),
        box((0.45, 0.0, 0.85), (0.05, 0.06, 0.5), color, reflectivity=0.15),
        box((0.42, 0.0, 1.05), (0.06, 0.55, 0.06), _GREY, reflectivity=0.2),
    ]
    if rider:
        parts += _person(1.72, _pick(rng, _CLOTHES), (0.15, 0.16, 0.22), lift=0.25, x=-0.12)
    return Thing(KIND["bicyclist" if rider else "bicycle"], tuple(parts), (1.75, 0.6, 1.95 if rider else 1.15))


def motorcycle(rng: Rng, rider: bool) -> Thing:
    """Two fat wheels, a tank, a bench; with a rider who belongs to it."""
    color = _pick(rng, ((0.7, 0.1, 0.1), (0.1, 0.35, 0.6), (0.12, 0.12, 0.13)))
    parts = [_wheel(x, 0.0, 0.33, 0.18, 0.06) for x in (-0.72, 0.72)]
    parts += [
        box((0.0, 0.0, 0.5), (0.9, 0.42, 0.45), (0.16, 0.16, 0.17), reflectivity=0.25),
        Part(ELLIPSOID, (0.2, 0.0, 0.85), (0.42, 0.24, 0.22), color, reflectivity=0.25),
        box((-0.45, 0.0, 0.8), (0.75, 0.32, 0.16), _BLACK),
        box((0.62, 0.0, 1.0), (0.12, 0.75, 0.32), color, reflectivity=0.25),
    ]
    if rider:
        parts += _person(1.75, (0.12, 0.12, 0.13), (0.15, 0.16, 0.22), lift=0.2, x=-0.3)
    return Thing(KIND["motorcyclist" if rider else "motorcycle"], tuple(parts), (2.15, 0.8, 1.9 if rider else 1.25))


def _person(height: float, top: Vector, legs: Vector, lift: float = 0.0, x: float = 0.0) -> list[Part]:
    hips, neck = lift + 0.46 * height - lift * 0.3, lift + 0.84 * height - lift * 0.5
    leg = (0.09, 0.1, (hips - lift) / 2)
    skin = (0.72, 0.52, 0.40)
    return [
        Part(CYLINDER, (x + 0.08, 0.1, lift + leg[2]), leg, legs, reflectivity=0.08),
        Part(CYLINDER, (x - 0.08, -0.1, lift + leg[2]), leg, legs, reflectivity=0.08),
        Part(CYLINDER, (x, 0.0, (hips + neck) / 2), (0.15, 0.23, (neck - hips) / 2), top, reflectivity=0.12),
        Part(ELLIPSOID, (x, 0.0, neck + 0.13), (0.11, 0.1, 0.14), skin, reflectivity=0.12),
    ]


def pedestrian(rng: Rng) -> Thing:
    """A walker; now and then a child or a construction worker."""
    which = rng.random()
    name, height = ("adult", rng.uniform(1.6, 1.88)) if which < 0.75 else ("child", rng.uniform(1.05, 1.35))
    top = _pick(rng, _CLOTHES)
    if which > 0.88:
        name, height, top = "construction_worker", rng.uniform(1.65, 1.85), (0.85, 0.75, 0.1)
    parts = tuple(_person(height, top, _pick(rng, _CLOTHES)))
    return Thing(KIND[name], parts, (0.6, 0.65, height + 0.02))


def traffic_cone(rng: Rng) -> Thing:
    """An orange cone with white bands on a flat foot."""
    height = rng.uniform(0.7, 0.95)
    orange = (0.88, 0.28, 0.05)
    parts = (
        box((0.0, 0.0, 0.03), (0.42, 0.42, 0.06), (0.12, 0.1, 0.1)),
        Part(CONE, (0.0, 0.0, height / 2), (0.19, 0.19, height / 2), orange, CONE_BANDS, reflectivity=0.45),
    )
    return Thing(KIND["traffic_cone"], parts, (0.42, 0.42, height))


def barrier(rng: Rng) -> Thing:
    """A long low block across x: red and white, or grey concrete like the low walls around."""
    paint, color = (BANDS, (0.72, 0.18, 0.12)) if rng.random() < 0.6 else (CONCRETE, (0.52, 0.51, 0.49))
    length = rng.uniform(1.8, 2.2)
    parts = (
        box((0.0, 0.0, 0.15), (0.6, length, 0.3), color, paint, reflectivity=0.14),
        box((0.0, 0.0, 0.62), (0.28, length, 0.7), color, paint, reflectivity=0.14),
    )
    return Thing(KIND["barrier"], parts, (0.6, length, 0.97))


def debris(rng: Rng) -> Thing:
    """A cardboard box."""
    size = (float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.4, 0.7)))
    parts = (box((0.0, 0.0, size[2] / 2), size, (0.5, 0.38, 0.24), reflectivity=0.15),)
    return Thing(KIND["debris"], parts, size)


def other_static(rng: Rng) -> Thing:
    """A heap of rubbish bags."""
    places = [(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.5, 0.5)), 0.35) for _ in range(4)]
    bag = Part(ELLIPSOID, places[0], (0.5, 0.45, 0.42), (0.13, 0.13, 0.15), reflectivity=0.06, roughness=0.03)
    return Thing(KIND["rubbish"], tuple(replace(bag, center=place) for place in places))


def place(thing: Thing, x: float, y: float, yaw: float = 0.0, speed: float = 0.0) -> Thing:
    """The thing, standing at x, y (metres, scene frame) and looking along yaw (radians)."""
    return replace(thing, x=x, y=y, yaw=yaw, speed=speed)
