"""Laying out a street: ground, what lines it, and the things on it."""

from dataclasses import dataclass

import numpy as np

from core.synthetic import surroundings, things
from core.synthetic.ground import ASPHALT, GRASS, MARKING, PARKING, PAVERS, SOIL, TILES, Ground
from core.synthetic.solids import Thing

Rng = np.random.Generator
_LANE = 3.25  # metres
_MARGIN = 100.0  # metres of street before the start and after the end of the way


@dataclass(frozen=True)
class Street:
    """The measures of a street; all in metres, y counts from its middle, the vehicle keeps to the right."""

    way: float  # driven by the vehicle, from x = 0
    speed: float  # of the vehicle, metres a second
    island: float  # half width of the traffic island in the middle
    verge: float  # width of the grass beside the road
    pavement: float  # width of the sidewalk beside that
    parking: int  # side with a row of parked vehicles: 1 left, -1 right
    crossing: float  # x of the cross street's middle
    crossing_half: float  # its half width
    works: tuple[float, float]  # from x to x of the building site
    works_side: int

    @property
    def lane(self) -> float:
        """y of the vehicle's lane."""
        return -self.island - 0.2 - _LANE / 2

    def edge(self, side: int) -> float:
        """Distance from the middle to the edge of the road."""
        return self.island + 0.2 + _LANE + (2.8 if side == self.parking else 0.6)

    def walk(self, side: int) -> tuple[float, float]:
        """Distances from the middle to both edges of the sidewalk."""
        return self.edge(side) + self.verge, self.edge(side) + self.verge + self.pavement

    def crosses(self, x: float, clearance: float = 1.0) -> bool:
        """Whether x lies on the cross street."""
        return abs(x - self.crossing) < self.crossing_half + clearance


def lay_out(rng: Rng, seconds: float) -> tuple[Street, list[Thing], Ground]:
    """A street for a drive of that many seconds.

    Every street has all ten thing classes near the vehicle's way, so that every split of a few scenes has them.
    """
    speed = float(rng.uniform(4.5, 8.0))
    way = speed * seconds
    works = float(rng.uniform(2.0, way + 12.0))
    street = Street(
        way=way,
        speed=speed,
        island=float(rng.uniform(0.25, 0.5)),
        verge=float(rng.choice([0.0, 1.4, 2.0])),
        pavement=float(rng.uniform(3.4, 5.2)),
        parking=int(rng.choice([-1, 1])),
        crossing=float(rng.uniform(way + 18.0, way + 45.0) if rng.random() < 0.6 else rng.uniform(-45.0, -25.0)),
        crossing_half=float(rng.uniform(3.5, 5.0)),
        works=(works - 7.0, works + 8.0),
        works_side=int(rng.choice([-1, 1])),
    )
    ground = _ground(rng, street)
    standing: list[Thing] = []
    for side in (-1, 1):
        standing += _lots(rng, street, ground, side)
        standing += _furniture(rng, street, side)
    _cross_street(street, ground)
    return street, standing + _traffic(rng, street) + _walkers(rng, street) + _works(rng, street), ground


def _ground(rng: Rng, street: Street) -> Ground:
    x = (-_MARGIN, street.way + _MARGIN)
    ground = Ground.of(x, (-70.0, 70.0), GRASS)
    for side in (-1, 1):
        inner, outer = street.walk(side)
        edge, lane = street.edge(side), street.island + 0.2 + _LANE
        ground.paint(x, _strip(side, inner, outer), TILES)
        ground.paint(x, _strip(side, 0.0, edge), ASPHALT)
        if side == street.parking:
            ground.paint(x, _strip(side, lane, edge), PARKING)
        for y in (edge - 0.35, street.island + 0.3):
            ground.paint(x, _strip(side, y - 0.06, y + 0.06), MARKING)
        for start in np.arange(x[0], x[1], 6.0) if side == street.parking else ():
            ground.paint((start, start + 2.5), _strip(side, lane - 0.07, lane + 0.07), MARKING)
    for start in np.arange(x[0] + float(rng.uniform(0, 24)), x[1], 24.0):
        ground.paint((start, start + 11.0), (-street.island, street.island), PAVERS)
    return ground


def _cross_street(street: Street, ground: Ground) -> None:
    x = (street.crossing - street.crossing_half, street.crossing + street.crossing_half)
    road = (-street.edge(-1), street.edge(1))
    for side in (-1, 1):
        ground.paint((x[0] - 2.5, x[1] + 2.5), _strip(side, street.edge(side), 70.0), TILES)
        ground.paint(x, _strip(side, street.edge(side), 70.0), ASPHALT)
    ground.paint(x, road, ASPHALT)
    stripes = (x[0] - 4.2, x[0] - 1.2)
    ground.paint((stripes[0] - 0.4, stripes[1] + 0.4), road, ASPHALT)
    for y in np.arange(road[0] + 0.4, road[1] - 0.4, 1.0):
        ground.paint(stripes, (y, y + 0.5), MARKING)


def _lots(rng: Rng, street: Street, ground: Ground, side: int) -> list[Thing]:
    """Houses, parks and squares along one side."""
    standing: list[Thing] = []
    start = -_MARGIN + float(rng.uniform(0, 15))
    while start < street.way + _MARGIN - 10:
        end = start + float(rng.uniform(13.0, 24.0))
        lot = (start, end)
        start = end + (0.0 if rng.random() < 0.6 else float(rng.uniform(2.0, 5.0)))
        if side == street.works_side and lot[0] < street.works[1] and lot[1] > street.works[0]:
            ground.paint(street.works, _strip(side, street.walk(side)[1], street.walk(side)[1] + 12.0), SOIL)
            standing.append(surroundings.building(rng, lot, street.walk(side)[1] + 13.0, side, 12.0))
            continue
        if street.crosses(lot[0], 2.5) or street.crosses(lot[1], 2.5) or lot[0] < street.crossing < lot[1]:
            continue
        kind = rng.random()
        if kind < 0.66:
            standing += _house_lot(rng, street, ground, side, lot)
        elif kind < 0.92:
            standing += _park(rng, street, ground, side, lot)
        else:
            standing += _square(rng, street, ground, side, lot)
    return standing


def _strip(side: int, near: float, far: float) -> tuple[float, float]:
    return (near, far) if side > 0 else (-far, -near)


def _house_lot(rng: Rng, street: Street, ground: Ground, side: int, lot: tuple[float, float]) -> list[Thing]:
    near = street.walk(side)[1]
    front = near + float(rng.choice([0.3, 1.0, 3.0]))
    has_garden = front > near + 2
    ground.paint(lot, _strip(side, near, front + 1.0), GRASS if has_garden else TILES)
    standing = [surroundings.building(rng, lot, front, side, float(rng.uniform(10.0, 16.0)))]
    if has_garden:
        standing.append(surroundings.hedge(rng, (lot[0] + 1, lot[1] - 1), side * (near + 0.9), 1.1))
    return standing


def _park(rng: Rng, street: Street, ground: Ground, side: int, lot: tuple[float, float]) -> list[Thing]:
    near = street.walk(side)[1]
    if rng.random() < 0.3:
        ground.paint(lot, _strip(side, near + 2.0, near + 14.0), SOIL)
    standing = [
        surroundings.tree(rng, float(rng.uniform(*lot)), side * (near + float(rng.uniform(2.5, 12.0))), 1.3)
        for _ in range(int(rng.integers(3, 7)))
    ]
    standing += [
        surroundings.bush(rng, float(rng.uniform(*lot)), side * (near + float(rng.uniform(0.8, 9.0))))
        for _ in range(int(rng.integers(3, 7)))
    ]
    back = rng.random()
    if back < 0.35:
        standing.append(surroundings.wall(lot, side * (near + 14.5), float(rng.uniform(1.8, 3.0))))
    elif back < 0.6:
        standing.append(surroundings.hedge(rng, lot, side * (near + 14.5), 2.4))
    standing.append(surroundings.building(rng, lot, near + 16.5, side, 12.0))
    return standing


def _square(rng: Rng, street: Street, ground: Ground, side: int, lot: tuple[float, float]) -> list[Thing]:
    near = street.walk(side)[1]
    depth = float(rng.uniform(4.0, 9.0))
    ground.paint(lot, _strip(side, near, near + depth + 1.0), PAVERS if rng.random() < 0.6 else TILES)
    standing = [surroundings.building(rng, lot, near + depth, side, 12.0)]
    standing.append(surroundings.wall((lot[0] + 1.0, lot[0] + 6.0), side * (near + 0.4), 0.9))
    standing += [surroundings.post(float(x), side * (near + 0.3)) for x in np.arange(lot[0] + 7.5, lot[1], 1.8)]
    standing.append(surroundings.tree(rng, (lot[0] + lot[1]) / 2, side * (near + depth / 2)))
    return standing


def _furniture(rng: Rng, street: Street, side: int) -> list[Thing]:
    """Lamps, signs, street trees, kiosks."""
    standing: list[Thing] = []
    inner, outer = street.walk(side)
    x = -_MARGIN + float(rng.uniform(0, 10))
    while x < street.way + _MARGIN:
        kind = rng.random()
        if not street.crosses(x, 2.0):
            if kind < 0.16:
                standing.append(surroundings.lamp(x, side * (street.edge(side) + 0.4), -side * 1.8))
            elif kind < 0.26:
                standing.append(surroundings.sign(rng, x, side * (street.edge(side) + 0.4)))
            elif kind < 0.74:
                standing.append(surroundings.tree(rng, x, side * (inner + 1.0), 1.0))
            elif kind < 0.78:
                standing.append(surroundings.kiosk(rng, x, side * (outer - 0.5)))
            else:
                standing.append(surroundings.bush(rng, x, side * (outer - 0.3)))
        x += float(rng.uniform(3.8, 8.0))
    return standing


def _traffic(rng: Rng, street: Street) -> list[Thing]:
    """Parked vehicles on one side, moving ones in the lanes; a bus, a truck and a trailer among them."""
    large = [things.long_vehicle(rng, kind) for kind in ("bus", "truck", "trailer")]
    rng.shuffle(large)  # type: ignore[arg-type]
    found = _parked(rng, street, large[:2])
    pace = street.speed
    ahead = things.car(rng) if rng.random() < 0.6 else things.motorcycle(rng, rider=True)
    found.append(things.place(ahead, float(rng.uniform(12, 24)), street.lane, 0.0, pace))
    found.append(things.place(things.car(rng), float(rng.uniform(-24, -14)), street.lane, 0.0, pace))
    x = float(rng.uniform(15, 28))
    for mover in (things.car(rng), things.motorcycle(rng, rider=True), large[2], things.car(rng)):
        found.append(things.place(mover, x, -street.lane, np.pi, pace * 0.9))
        x += float(rng.uniform(13, 19))
    return found


def _parked(rng: Rng, street: Street, large: list[Thing]) -> list[Thing]:
    """A row of parked cars with two large vehicles, one behind the vehicle's way and one ahead."""
    found: list[Thing] = []
    turns, places = list(large), [float(rng.uniform(-22.0, -13.0)), street.way + float(rng.uniform(7.0, 16.0))]
    y = street.parking * (street.edge(street.parking) - 1.3)
    x = -34.0 + float(rng.uniform(0, 6))
    while x < street.way + 60.0:
        is_large = bool(turns) and x > places[0]
        thing = turns.pop(0) if is_large else things.car(rng)
        places = places[1:] if is_large else places
        assert thing.size is not None
        x += thing.size[0] / 2
        if is_large or (rng.random() < (0.3 if street.parking > 0 else 0.18) and not street.crosses(x, 5.0)):
            found.append(things.place(thing, x, y, 0.0 if street.parking < 0 else np.pi))
        x += thing.size[0] / 2 + float(rng.uniform(0.8, 3.0))
    return found


def _walkers(rng: Rng, street: Street) -> list[Thing]:
    """People on the sidewalks, two-wheelers parked at their edge, a cyclist at the side of the road."""
    found: list[Thing] = []
    for side in (-1, 1):
        inner, outer = street.walk(side)
        for x in rng.uniform(-14.0, street.way + 26.0, size=int(rng.integers(4, 8))):
            y = side * float(rng.uniform(inner + 1.3, outer - 0.9))
            yaw = float(rng.choice([0.0, np.pi]) + rng.normal(0, 0.03))
            moves = rng.random() < 0.7
            found.append(things.place(things.pedestrian(rng), float(x), y, yaw, float(rng.uniform(0.8, 1.6)) * moves))
        for build in (things.bicycle, things.motorcycle):
            x, y = float(rng.uniform(-5.0, street.way + 9.0)), side * (inner + 0.6)
            found.append(things.place(build(rng, rider=False), x, y, float(rng.uniform(-0.5, 0.5))))
    side = -street.parking
    rider, x = things.bicycle(rng, rider=True), float(rng.uniform(9.0, 14.0) if side < 0 else rng.uniform(18.0, 30.0))
    yaw = 0.0 if side < 0 else np.pi
    found.append(things.place(rider, x, side * (street.edge(side) - 0.45), yaw, street.speed * 0.7))
    x, side = float(rng.uniform(-5, street.way + 10)), int(rng.choice([-1, 1]))
    found.append(things.place(things.other_static(rng), x, side * (street.walk(side)[1] + 0.6)))
    return found


def _works(rng: Rng, street: Street) -> list[Thing]:
    """A building site at the side of the road: an excavator behind barriers, cones before it."""
    side, x = street.works_side, street.works[0] + 7.0
    beyond = street.walk(side)[1] + 3.5
    found = [things.place(things.construction_vehicle(rng), x, side * beyond, float(rng.uniform(-0.6, 0.6)))]
    fence = side * (street.walk(side)[1] + 0.5)
    for index in range(int(rng.integers(4, 8))):
        found.append(things.place(things.barrier(rng), x - 6.0 + 2.25 * index, fence, np.pi / 2))
    line = street.parking * (street.edge(street.parking) - 2.65)
    start = float(rng.uniform(-4.0, street.way + 2.0))
    for index in range(int(rng.integers(5, 9))):
        found.append(things.place(things.traffic_cone(rng), start + 2.2 * index, line + float(rng.normal(0, 0.08))))
    found.append(things.place(things.debris(rng), x + float(rng.uniform(-3, 3)), side * (street.walk(side)[1] - 0.7)))
    return found
