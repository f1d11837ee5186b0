"""One scene of the city: a street with all that lines it, and the vehicle's way along it."""

import zlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from core.synthetic.ground import CELL, GROUND_RAISED, Ground
from core.synthetic.poses import Matrix, rotation, transform
from core.synthetic.raycast import SKY, cast_ground, cast_solids
from core.synthetic.solids import Solids, Thing, build_solids
from core.synthetic.street import Street, lay_out

KEY_FRAME_SECONDS = 0.5


@dataclass(frozen=True)
class Weather:
    """Light, air and camera of a scene."""

    sun: NDArray[np.float64]  # [3] unit vector towards the sun, scene frame
    sunlight: NDArray[np.float64]  # [3] red, green, blue of direct light
    skylight: NDArray[np.float64]  # [3] of ambient light
    zenith: NDArray[np.float64]  # [3] colour of the sky overhead
    haze: NDArray[np.float64]  # [3] colour of the horizon and of far things
    clouds: float  # share of the sky, 0..1
    haze_distance: float  # metres after which 63 % of a colour are lost
    noise: float  # standard deviation of pixel noise, grey levels
    gain: NDArray[np.float64]  # [3] exposure and white balance of the cameras


@dataclass
class Scene:
    """A made-up street. The scene frame: x along the street, y left, z up, z = 0 the road, metres."""

    name: str
    things: list[Thing]
    ground: Ground
    weather: Weather
    to_world: Matrix  # [4, 4] scene frame -> the city's global frame
    street: Street
    phase: float

    @cached_property
    def solids(self) -> Solids:
        """The parts of all things as arrays."""
        return build_solids(self.things)

    def cast(
        self,
        origin: NDArray[np.float64],
        rays: NDArray[np.float64],
        used: NDArray[np.int64],
        centers: NDArray[np.float64],
        near: NDArray[np.float64],
        windows: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What rays [H, W, 3] from `origin` meet: distances and hits [H, W] (SKY, GROUND or a row of `used`).

        Args:
            used: int64 [U], the solids that are tried, from near to far.
            centers, near: of all solids, [S, 3] and [S].
            windows: int64 [U, 4]; see `cast_solids`.
        """
        solids, ground = self.solids, self.ground
        distance, hit = np.full(rays.shape[:2], 1e9), np.full(rays.shape[:2], SKY, np.int64)
        arrays = (solids.kind, solids.inverse, centers, solids.porosity, near)
        cast_solids(origin, rays, *(array[used] for array in arrays), windows, distance, hit)
        cast_ground(origin, rays, ground.material, ground.origin, CELL, GROUND_RAISED, distance, hit)
        return distance, hit

    def shadows(self, time: float) -> NDArray[np.uint8]:
        """See `Ground.shadows`."""
        return self.ground.shadows(self.solids, self.solids.centers(time), self.weather.sun)

    def vehicle_pose(self, time: float) -> Matrix:
        """Vehicle frame -> scene frame [4, 4] at `time` seconds after the first key frame."""
        sway, rate = 0.18, 1.1
        y = self.street.lane + sway * np.sin(rate * time + self.phase)
        yaw = np.arctan2(sway * rate * np.cos(rate * time + self.phase), self.street.speed)
        pitch, roll = 0.004 * np.sin(2.3 * time + self.phase), 0.003 * np.sin(1.7 * time + 2.0 * self.phase)
        return transform(rotation(yaw, pitch, roll), (self.street.speed * time, y, 0.0))


@lru_cache(maxsize=2)
def make_scene(seed: int, name: str, num_frames: int) -> Scene:
    """The scene of that name in the city of that seed; the same arguments give the same scene.

    Args:
        seed: of the city.
        name: of the scene; scenes of different names differ.
        num_frames: key frames that the vehicle drives on, half a second apart.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    street, things, ground = lay_out(rng, (num_frames - 1) * KEY_FRAME_SECONDS)
    place = rng.uniform(300.0, 1700.0, size=2)
    to_world = transform(rotation(rng.uniform(-np.pi, np.pi)), (place[0], place[1], 0.0))
    return Scene(name, things, ground, _weather(rng), to_world, street, float(rng.uniform(0, 2 * np.pi)))


def _weather(rng: np.random.Generator) -> Weather:
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(32, 65))
    sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    overcast = rng.uniform(0.0, 1.0) ** 1.5
    warmth = rng.uniform(0.0, 0.12)
    zenith = (1 - overcast) * np.array([0.30, 0.48, 0.78]) + overcast * np.array([0.62, 0.66, 0.72])
    haze = (1 - overcast) * np.array([0.74, 0.82, 0.92]) + overcast * np.array([0.80, 0.82, 0.84])
    return Weather(
        sun=sun,
        sunlight=(1.0 - 0.75 * overcast) * np.array([0.95 + warmth, 0.92, 0.85 - warmth]),
        skylight=np.array([0.52, 0.55, 0.61]) + 0.25 * overcast,
        zenith=zenith,
        haze=haze,
        clouds=float(0.15 + 0.7 * overcast),
        haze_distance=float(rng.uniform(180.0, 500.0)),
        noise=float(rng.uniform(1.5, 4.0)),
        gain=rng.uniform(0.88, 1.12) * rng.uniform(0.96, 1.04, size=3),
    )
