"""Sensors described by data: where they sit, which rays they send, when they look."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.synthetic.poses import Matrix, rotation, transform


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


# channel: x, y, z of the mounting (m), yaw (degrees, left positive), focal length and centre at 1600 x 900 (pixels),
# delay (ms): each camera looks when the LiDAR, which turns clockwise from the rear, sweeps past the middle of its view
_NUSCENES_CAMERAS = {
    "CAM_FRONT_LEFT": (1.52, 0.49, 1.51, 55.0, 1272.6, 826.6, 479.8, -43.1),
    "CAM_FRONT": (1.70, 0.02, 1.51, 0.0, 1266.4, 816.3, 491.5, -35.5),
    "CAM_FRONT_RIGHT": (1.55, -0.49, 1.50, -55.0, 1260.8, 808.0, 495.3, -27.6),
    "CAM_BACK_LEFT": (1.04, 0.48, 1.59, 110.0, 1256.7, 792.1, 492.8, -0.5),
    "CAM_BACK": (0.03, 0.00, 1.58, 180.0, 809.2, 829.2, 481.8, -10.4),
    "CAM_BACK_RIGHT": (1.01, -0.48, 1.56, -110.0, 1259.5, 807.3, 501.2, -20.1),
}


def nuscenes_rig(azimuth_steps: int, image_size: tuple[int, int]) -> Rig:
    """The sensors of nuScenes: a 32-beam LiDAR on the roof and six cameras around it.

    Args:
        azimuth_steps: columns of a LiDAR turn; the real one has 1 084.
        image_size: height and width of the images in pixels; the real ones have 900 and 1 600.
    """
    elevations = np.radians(np.linspace(-30.67, 10.67, 32))
    azimuths = np.radians(-173.0) - (np.arange(azimuth_steps) + 0.5) * (2.0 * np.pi / azimuth_steps)
    lidar = Lidar(
        channel="LIDAR_TOP",
        to_vehicle=transform(rotation(np.radians(-89.9)), (0.94, 0.0, 1.84)),
        elevations=elevations,
        azimuths=azimuths,
        keeps_misses=True,
        roof_half_angle=np.radians(38.0),
    )
    return Rig(lidar, tuple(_nuscenes_camera(channel, image_size) for channel in _NUSCENES_CAMERAS))


def _nuscenes_camera(channel: str, image_size: tuple[int, int]) -> Camera:
    x, y, z, yaw, focal, center_u, center_v, delay = _NUSCENES_CAMERAS[channel]
    height, width = image_size
    scale_u, scale_v = width / 1600.0, height / 900.0
    intrinsic = np.array(
        [
            [focal * scale_u, 0.0, (center_u + 0.5) * scale_u - 0.5],
            [0.0, focal * scale_v, (center_v + 0.5) * scale_v - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    axes = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # camera axes in a vehicle looking along x
    to_vehicle = transform(rotation(np.radians(yaw)) @ axes, (x, y, z))
    return Camera(channel, to_vehicle, width, height, intrinsic, round(delay * 1000))
