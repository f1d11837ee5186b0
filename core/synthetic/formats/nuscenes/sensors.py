"""The sensors of nuScenes' vehicles."""

import numpy as np

from core.synthetic.poses import rotation, transform
from core.synthetic.sensors import CAMERA_AXES, Camera, Lidar, Rig, scaled_intrinsic

FULL_IMAGE_SIZE = (900, 1600)
# channel: x, y, z of the mounting (m), yaw (degrees, left positive), focal length and centre at 1600 x 900 (pixels),
# delay (ms): each camera looks when the LiDAR, which turns clockwise from the rear, sweeps past the middle of its view
_CAMERAS = {
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
    return Rig(lidar, tuple(_camera(channel, image_size) for channel in _CAMERAS))


def _camera(channel: str, image_size: tuple[int, int]) -> Camera:
    x, y, z, yaw, focal, center_u, center_v, delay = _CAMERAS[channel]
    intrinsic = scaled_intrinsic(focal, (center_u, center_v), FULL_IMAGE_SIZE, image_size)
    to_vehicle = transform(rotation(np.radians(yaw)) @ CAMERA_AXES, (x, y, z))
    return Camera(channel, to_vehicle, image_size[1], image_size[0], intrinsic, round(delay * 1000))
