"""What the world is made of: solids (parts), things made of several, and the arrays the ray caster takes."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from core.synthetic.poses import rotation
from core.synthetic.raycast import BOX

Vector = tuple[float, float, float]

# paints: how a surface is coloured in images (see paint.py)
PLAIN, FACADE, FOLIAGE, BARK, BUS, TRUCK, TRAILER, BANDS, CONE_BANDS, CONCRETE, GLASS, CAR, WHEEL = range(13)


@dataclass(frozen=True)
class Part:
    """One solid of a thing, in the thing's frame (x forward, y left, z up, origin on the ground)."""

    kind: int  # BOX, ELLIPSOID, CYLINDER or CONE
    center: Vector  # metres
    half: Vector  # half extents along its own axes, metres
    color: Vector  # red, green, blue in 0..1
    paint: int = PLAIN
    reflectivity: float = 0.1  # LiDAR intensity / 255 of a surface seen from straight ahead
    roughness: float = 0.0  # extra noise of LiDAR ranges, metres
    porosity: float = 0.0  # share of holes
    angles: Vector = (0.0, 0.0, 0.0)  # yaw, pitch, roll in radians
    label: int | None = None  # of labels.KINDS, where it is another than the thing's


@dataclass(frozen=True)
class Thing:
    """Something that stands or moves in the world."""

    label: int  # of labels.KINDS
    parts: tuple[Part, ...]
    size: Vector | None = None  # length, width, height; None for stuff
    x: float = 0.0  # place of its origin at time 0, metres, scene frame
    y: float = 0.0
    yaw: float = 0.0  # radians
    speed: float = 0.0  # metres a second along yaw


@dataclass
class Solids:
    """All parts of all things as arrays of length S, in the scene frame at time 0."""

    kind: NDArray[np.int64]
    center: NDArray[np.float64]  # [S, 3] metres
    velocity: NDArray[np.float64]  # [S, 3] metres a second
    axes: NDArray[np.float64]  # [S, 3, 3] columns: half axes in metres; unit shape -> world
    inverse: NDArray[np.float64]  # [S, 3, 3] world -> unit shape
    half: NDArray[np.float64]  # [S, 3] metres
    color: NDArray[np.float64]  # [S, 3] 0..1
    paint: NDArray[np.int64]
    reflectivity: NDArray[np.float64]
    roughness: NDArray[np.float64]
    porosity: NDArray[np.float64]
    label: NDArray[np.uint8]  # of labels.KINDS
    thing: NDArray[np.int64]  # index of the thing in the scene's list
    corners: NDArray[np.float64] = field(init=False)  # [S, 8, 3] metres, relative to the centre

    def __post_init__(self) -> None:
        unit = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), axis=-1).reshape(8, 3)
        self.corners = np.einsum("sij,cj->sci", self.axes, unit.astype(np.float64))

    def centers(self, time: float) -> NDArray[np.float64]:
        """Centres [S, 3] at `time` seconds, metres, scene frame."""
        return self.center + time * self.velocity


def build_solids(things: list[Thing]) -> Solids:
    """Lays out the parts of all things as arrays."""
    rows = [(index, thing, part) for index, thing in enumerate(things) for part in thing.parts]
    turns = np.array([rotation(thing.yaw) @ rotation(*part.angles) for _, thing, part in rows])
    half = np.array([part.half for _, _, part in rows])
    center = np.array([rotation(t.yaw) @ np.array(p.center) + np.array([t.x, t.y, 0.0]) for _, t, p in rows])
    velocity = np.array([[t.speed * np.cos(t.yaw), t.speed * np.sin(t.yaw), 0.0] for _, t, _ in rows])
    axes = turns * half[:, None, :]
    return Solids(
        kind=np.array([part.kind for _, _, part in rows], dtype=np.int64),
        center=center,
        velocity=velocity,
        axes=axes,
        inverse=np.ascontiguousarray(np.swapaxes(turns, 1, 2) / half[:, :, None]),
        half=half,
        color=np.array([part.color for _, _, part in rows]),
        paint=np.array([part.paint for _, _, part in rows], dtype=np.int64),
        reflectivity=np.array([part.reflectivity for _, _, part in rows]),
        roughness=np.array([part.roughness for _, _, part in rows]),
        porosity=np.array([part.porosity for _, _, part in rows]),
        label=np.array([t.label if p.label is None else p.label for _, t, p in rows], dtype=np.uint8),
        thing=np.array([index for index, _, _ in rows], dtype=np.int64),
    )


def box(center: Vector, size: Vector, color: Vector, paint: int = PLAIN, **more: float) -> Part:
    """A box part; `size` are full extents in metres."""
    return Part(BOX, center, (size[0] / 2, size[1] / 2, size[2] / 2), color, paint, **more)  # type: ignore[arg-type]
