"""The sensors of Waymo's vehicle: the TOP LiDAR with 64 beams, five cameras that do not look back."""

import numpy as np

from core.synthetic.poses import rotation, transform
from core.synthetic.sensors import CAMERA_AXES, Camera, Lidar, Rig, scaled_intrinsic

BEAMS = 64
TURN_SECONDS = 0.1
FULL_IMAGE_SIZE = (1280, 1920)  # height, width of the front cameras' images
SIDE_HEIGHT = 886  # of the side cameras', which are as wide

# camera: x, y, z of the mounting (m), yaw (degrees, left positive), focal length and centre (pixels of the real size)
_CAMERAS = {
    "FRONT": (1.54, -0.02, 2.12, 0.0, 2060.0, 948.0, 641.0),
    "FRONT_LEFT": (1.50, 0.10, 2.12, 45.0, 2062.0, 968.0, 633.0),
    "FRONT_RIGHT": (1.49, -0.10, 2.12, -45.0, 2059.0, 955.0, 649.0),
    "SIDE_LEFT": (1.43, 0.12, 2.12, 90.0, 2064.0, 961.0, 238.0),
    "SIDE_RIGHT": (1.42, -0.12, 2.12, -90.0, 2061.0, 957.0, 245.0),
}


def waymo_rig(azimuth_steps: int, image_size: tuple[int, int]) -> Rig:
    """The sensors.

    Args:
        azimuth_steps: columns of the range images; the real ones have 2 650.
        image_size: height and width of the front cameras' images in pixels; the real ones have 1 280 and 1 920. Those
            of the side cameras are as wide and lower (886).
    """
    to_vehicle = transform(rotation(np.radians(148.0), 0.004, -0.003), (1.43, 0.0, 2.184))
    share = (azimuth_steps - np.arange(azimuth_steps) - 0.5) / azimuth_steps
    azimuths = (share * 2 - 1) * np.pi - np.arctan2(to_vehicle[1, 0], to_vehicle[0, 0])
    # denser near the horizon, as the real one; ring 0 is the highest
    below = np.linspace(0.0, 1.0, BEAMS)
    elevations = np.radians(2.4 - 20.4 * (0.62 * below + 0.38 * below**2))
    lidar = Lidar("TOP", to_vehicle, elevations, azimuths, range_max=75.0, range_noise=0.02, drop_rate=0.02)
    return Rig(lidar, tuple(_camera(name, image_size) for name in _CAMERAS))


def _camera(name: str, image_size: tuple[int, int]) -> Camera:
    x, y, z, yaw, focal, center_u, center_v = _CAMERAS[name]
    height, width = image_size
    intrinsic = scaled_intrinsic(focal, (center_u, center_v), FULL_IMAGE_SIZE, image_size)
    if name.startswith("SIDE"):
        height = round(height * SIDE_HEIGHT / FULL_IMAGE_SIZE[0])
    to_vehicle = transform(rotation(np.radians(yaw)) @ CAMERA_AXES, (x, y, z))
    # each camera looks when the LiDAR, which turns clockwise from the rear, sweeps past the middle of its view
    delay = round(1e6 * TURN_SECONDS * -yaw / 360.0)
    return Camera(name, to_vehicle, width, height, intrinsic, delay)
