"""Camera images of a scene."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.running.compiled import njit
from core.synthetic.ground import CELL
from core.synthetic.paint import shade
from core.synthetic.raycast import turn
from core.synthetic.scene import Scene
from core.synthetic.sensors import Camera

_NEAR = 0.05  # metres of depth
_RANGE = 220.0  # metres
_JPEG_QUALITY = 88
_EDGES = np.array([[a, b] for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)], dtype=np.int64)


class View:
    """What a camera's rays meet at one instant."""

    def __init__(self, scene: Scene, camera: Camera, time: float) -> None:
        """Traces the rays of `camera` in `scene` at `time` seconds."""
        self.scene = scene
        solids = scene.solids
        pose = scene.vehicle_pose(time) @ camera.to_vehicle
        self.origin = np.ascontiguousarray(pose[:3, 3])
        self.rays = turn(np.ascontiguousarray(pose[:3, :3]), camera.directions())
        self.centers = solids.centers(time)
        corners = (solids.corners + self.centers[:, None, :] - self.origin) @ pose[:3, :3]
        windows = _windows(corners, camera.intrinsic, camera.width, camera.height, _EDGES)
        depth = np.maximum(corners[..., 2].min(axis=1), 0.0)
        used = np.flatnonzero((windows[:, 1] > windows[:, 0]) & (windows[:, 3] > windows[:, 2]) & (depth < _RANGE))
        self.used = used[np.argsort(depth[used], kind="stable")]
        # [H, W] depth, metres; [H, W] SKY, GROUND or a row of `used`
        self.distance, self.hit = scene.cast(self.origin, self.rays, self.used, self.centers, depth, windows[self.used])

    def colors(self, shadow: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Colours [H, W, 3] in 0..255 before the camera's own blur and noise; `shadow` as from `Ground.shadows`."""
        solids, ground, weather = self.scene.solids, self.scene.ground, self.scene.weather
        arrays = (solids.kind, solids.inverse, solids.axes, self.centers, solids.half, solids.color, solids.paint)
        image = np.empty((*self.hit.shape, 3), dtype=np.float32)
        light = (weather.sun, weather.sunlight, weather.skylight, weather.zenith, weather.haze)
        shade(
            self.origin,
            self.rays,
            self.distance,
            self.hit,
            tuple(array[self.used] for array in arrays),
            (ground.material, shadow, ground.origin, CELL),
            (*light, weather.clouds, weather.haze_distance),
            image,
        )
        return image


def photograph(
    scene: Scene, camera: Camera, time: float, shadow: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """What `camera` sees at `time` seconds, with the lens's blur, exposure and noise: uint8 [H, W, 3], RGB."""
    image = View(scene, camera, time).colors(shadow)
    cv2.GaussianBlur(image, (3, 3), 0.55, dst=image)
    image *= scene.weather.gain.astype(np.float32)
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(scene.weather.noise)
    return np.clip(image + 0.5, 0.0, 255.0).astype(np.uint8)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """JPEG file of an RGB image [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


@njit(cache=True, nogil=True)
def _windows(corners, intrinsic, width, height, edges):
    """Pixels that can see each solid, from its corners [S, 8, 3] in the camera frame: int64 [S, 4], rows and columns.

    The hull of the corners is clipped at a near plane, so that its projection bounds the solid's.
    """
    windows = np.zeros((corners.shape[0], 4), dtype=np.int64)
    for s in range(corners.shape[0]):
        low_u, high_u, low_v, high_v = 1e9, -1e9, 1e9, -1e9
        for e in range(edges.shape[0]):
            a, b = corners[s, edges[e, 0]], corners[s, edges[e, 1]]
            if a[2] < _NEAR and b[2] < _NEAR:
                continue
            for end in range(2):
                p, q = (a, b) if end == 0 else (b, a)
                x, y, z = p[0], p[1], p[2]
                if z < _NEAR:
                    share = (_NEAR - z) / (q[2] - z)
                    x, y, z = x + share * (q[0] - x), y + share * (q[1] - y), _NEAR
                u = intrinsic[0, 0] * x / z + intrinsic[0, 2]
                v = intrinsic[1, 1] * y / z + intrinsic[1, 2]
                low_u, high_u, low_v, high_v = min(low_u, u), max(high_u, u), min(low_v, v), max(high_v, v)
        if high_u >= low_u:
            windows[s, 0] = max(0, min(height, int(np.floor(low_v)) - 1))
            windows[s, 1] = max(0, min(height, int(np.ceil(high_v)) + 2))
            windows[s, 2] = max(0, min(width, int(np.floor(low_u)) - 1))
            windows[s, 3] = max(0, min(width, int(np.ceil(high_u)) + 2))
    return windows
