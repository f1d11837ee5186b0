"""Sensors described by data: where they sit, which rays they send, when they look."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.synthetic.poses import Matrix


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR. All its rays of a turn count as sent at one instant, from one place."""

    channel: str
    to_vehicle: Matrix  # [4, 4] sensor frame -> vehicle frame (x forward, y left, z up, origin on the ground), metres
    elevations: NDArray[np.float64]  # [B] radians, ring 0 first
    azimuths: NDArray[np.float64]  # [A] radians in the sensor frame, counter-clockwise from x, in firing order
    range_max: float = 100.0  # metres
    range_noise: float = 0.02  # standard deviation, metres
    drop_rate: float = 0.01  # share of rays that leave no point at all
    keeps_misses: bool = False  # whether rays without an echo leave a point beside the sensor
    roof_below: float = 0.33  # metres from the sensor down to the vehicle's own roof behind it
    roof_reach: float = 0.85  # metres from the sensor to the roof's end
    roof_half_angle: float = 0.0  # radians, of the roof as seen from the sensor around straight behind; 0: none

    def directions(self) -> NDArray[np.float64]:
        """Unit rays [A, B, 3] in the sensor frame."""
        azimuth, elevation = self.azimuths[:, None], self.elevations[None, :]
        x, y = np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation)
        return np.stack([x, y, np.broadcast_to(np.sin(elevation), x.shape)], axis=-1)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera (x right, y down, z forward)."""

    channel: str
    to_vehicle: Matrix  # [4, 4] camera frame -> vehicle frame
    width: int  # pixels
    height: int
    intrinsic: Matrix  # [3, 3] pixels
    delay: int  # microseconds from the LiDAR's time stamp to this camera's (negative: the camera looks earlier)

    def directions(self) -> NDArray[np.float64]:
        """Rays [H, W, 3] through the pixel centres, in the camera frame, of depth 1 (not of length 1)."""
        k = self.intrinsic
        u = (np.arange(self.width) - k[0, 2]) / k[0, 0]
        v = (np.arange(self.height) - k[1, 2]) / k[1, 1]
        return np.stack(np.broadcast_arrays(u[None, :], v[:, None], np.ones((1, 1))), axis=-1)


@dataclass(frozen=True)
class Rig:
    """The sensors of one vehicle."""

    lidar: Lidar
    cameras: tuple[Camera, ...]


# camera axes (x right, y down, z forward) in a vehicle's frame, looking along its x
CAMERA_AXES = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def scaled_intrinsic(
    focal: float, center: tuple[float, float], full_size: tuple[int, int], size: tuple[int, int]
) -> Matrix:
    """Intrinsic matrix [3, 3] of an image resized from `full_size` to `size` (height, width).

    Args:
        focal: focal length in pixels of the full size; center: (u, v) of the principal point there.
    """
    scale_u, scale_v = size[1] / full_size[1], size[0] / full_size[0]
    return np.array(
        [
            [focal * scale_u, 0.0, (center[0] + 0.5) * scale_u - 0.5],
            [0.0, focal * scale_v, (center[1] + 0.5) * scale_v - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
