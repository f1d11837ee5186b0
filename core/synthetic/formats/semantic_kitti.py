"""The city as SemanticKITTI: one sequence a scene, with a 64-beam LiDAR and one colour camera."""

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.running.files import write_atomic
from core.synthetic.camera import photograph
from core.synthetic.city import City, FrameFiles, numbers, seconds
from core.synthetic.labels import KINDS, kind_table
from core.synthetic.lidar import scan
from core.synthetic.poses import Matrix, rotation, transform
from core.synthetic.scene import Scene
from core.synthetic.sensors import CAMERA_AXES, Camera, Lidar, Rig, scaled_intrinsic

FULL_IMAGE_SIZE = (376, 1241)
_CAMERA_2 = 0.06  # m from camera 0 to camera 2, to the left
_LIDAR_TO_VEHICLE = transform(rotation(), (0.76, 0.0, 1.73))
_CAMERA_0_TO_VEHICLE = transform(rotation(0.003, 0.008, 0.001) @ CAMERA_AXES, (1.03, 0.0, 1.65))

# raw label: name, the city's kinds; then the raw label where it moves
_RAW = {
    0: ("unlabeled", ("sky",)),
    1: ("outlier", ("own_vehicle",)),
    10: ("car", ("car",)),
    11: ("bicycle", ("bicycle",)),
    13: ("bus", ("bus",)),
    15: ("motorcycle", ("motorcycle",)),
    18: ("truck", ("truck",)),
    20: ("other-vehicle", ("excavator", "trailer")),
    30: ("person", ("adult", "child", "construction_worker")),
    31: ("bicyclist", ("bicyclist",)),
    32: ("motorcyclist", ("motorcyclist",)),
    40: ("road", ("road",)),
    44: ("parking", ("parking",)),
    48: ("sidewalk", ("sidewalk",)),
    49: ("other-ground", ("paving",)),
    50: ("building", ("building",)),
    51: ("fence", ("wall", "barrier")),
    52: ("other-structure", ("kiosk",)),
    60: ("lane-marking", ("marking",)),
    70: ("vegetation", ("leaves",)),
    71: ("trunk", ("trunk",)),
    72: ("terrain", ("grass", "soil")),
    80: ("pole", ("post", "lamp", "sign_pole")),
    81: ("traffic-sign", ("sign",)),
    99: ("other-object", ("debris", "rubbish", "traffic_cone")),
}
_MOVING = {10: 252, 31: 253, 30: 254, 32: 255, 13: 257, 18: 258, 20: 259}
_RAW_OF_KIND = np.array(kind_table({raw: kinds for raw, (_, kinds) in _RAW.items()}), np.uint32)
_MOVING_OF_KIND = np.array([_MOVING.get(int(raw), int(raw)) for raw in _RAW_OF_KIND], np.uint32)


class SemanticKittiCity:
    """See `CityFormat`. Points are counted by the city's own kinds."""

    folders = ("sequences",)
    class_names = KINDS
    own_class = "own_vehicle"
    small = dict(train_scenes=10, val_scenes=1, test_scenes=1, frames=10, azimuth_steps=450, image_size=(188, 620))
    full_size = "--azimuth-steps 2083 --image-size 376 1241"

    def scene_names(self) -> dict[str, list[str]]:
        """The sequences of each split."""
        train = [f"{number:02d}" for number in range(11) if number != 8]
        return {"train": train, "val": ["08"], "test": [f"{number:02d}" for number in range(11, 22)]}

    def frame_files(self, city: City, name: str, frame: int, labelled: bool) -> FrameFiles:
        """Scan, image and labels."""
        scene, rig, time = city.scene(name), kitti_rig(city.azimuth_steps, city.image_size, name), seconds(frame)
        found = scan(scene, rig.lidar, time, city.rng(name, "velodyne", frame))
        points = found.points[:, :4].copy()
        points[:, 3] /= 255
        shadow = scene.shadows(time)
        image = photograph(scene, rig.cameras[0], time, shadow, city.rng(name, "image_2", frame))
        folder, file = f"sequences/{name}", f"{frame:06d}"
        files = {f"{folder}/velodyne/{file}.bin": points.tobytes(), f"{folder}/image_2/{file}.png": _png(image)}
        if labelled:
            files[f"{folder}/labels/{file}.label"] = raw_labels(scene, found.labels, found.things).tobytes()
        return FrameFiles(files, np.bincount(found.labels, minlength=len(KINDS)).tolist())

    def finish(self, root: str, city: City, scenes: dict[str, list[str]]) -> None:
        """Writes calib.txt, poses.txt and times.txt of each sequence."""
        for name in (name for names in scenes.values() for name in names):
            camera = kitti_rig(city.azimuth_steps, city.image_size, name).cameras[0]
            scene, times = city.scene(name), [seconds(frame) for frame in range(city.frames)]
            texts = {
                "calib.txt": "".join(f"{key}: {numbers(rows)}\n" for key, rows in calibration(camera).items()),
                "poses.txt": "".join(f"{numbers(pose[:3])}\n" for pose in poses(scene, times)),
                "times.txt": "".join(f"{time:.6e}\n" for time in times),
            }
            for file, text in texts.items():
                with write_atomic(os.path.join(root, "sequences", name, file)) as stream:
                    stream.write(text.encode())


def kitti_rig(azimuth_steps: int, image_size: tuple[int, int], sequence: str) -> Rig:
    """A 64-beam LiDAR and the left colour camera.

    Args:
        azimuth_steps: columns of a LiDAR turn; the real one has some 2 083.
        image_size: height and width in pixels; the images of some sequences are a little smaller, as the real ones are.
    """
    lidar = Lidar(
        channel="velodyne",
        to_vehicle=_LIDAR_TO_VEHICLE,
        elevations=np.radians(np.linspace(2.0, -24.8, 64)),
        azimuths=np.radians(180.0) - (np.arange(azimuth_steps) + 0.5) * (2.0 * np.pi / azimuth_steps),
        range_max=80.0,
    )
    height, width = image_size[0] - int(sequence) % 3, image_size[1] - 2 * (int(sequence) % 3)
    intrinsic = scaled_intrinsic(718.856, (607.1928, 185.2157), FULL_IMAGE_SIZE, (height, width))
    to_vehicle = _CAMERA_0_TO_VEHICLE @ transform(np.eye(3), (-_CAMERA_2, 0.0, 0.0))
    return Rig(lidar, (Camera("image_2", to_vehicle, width, height, intrinsic, 0),))


def raw_labels(scene: Scene, kinds: NDArray[np.uint8], things: NDArray[np.int64]) -> NDArray[np.uint32]:
    """uint32 [N]: raw label in the low half; in the high half the instance, counted from 1, of vehicles and people.

    Args:
        kinds: uint8 [N], of labels.KINDS; things: int64 [N], index into the scene's things, -1 for none.
    """
    moves = np.array([thing.speed > 0 for thing in scene.things] + [False])[things]  # -1 takes the last
    raw = np.where(moves, _MOVING_OF_KIND[kinds], _RAW_OF_KIND[kinds])
    countable = np.isin(_RAW_OF_KIND[kinds], [10, 11, 13, 15, 18, 20, 30, 31, 32])
    return (raw | np.where(countable, things + 1, 0).astype(np.uint32) << 16).astype("<u4")


def calibration(camera: Camera) -> dict[str, Matrix]:
    """P0 to P3 and Tr as rows [3, 4]; the cameras are alike but for their place, and only camera 2 has images."""
    shifts = {"P0": 0.0, "P1": -0.54, "P2": _CAMERA_2, "P3": _CAMERA_2 - 0.53}
    rows = {key: camera.intrinsic @ np.column_stack([np.eye(3), (shift, 0.0, 0.0)]) for key, shift in shifts.items()}
    return {**rows, "Tr": (np.linalg.inv(_CAMERA_0_TO_VEHICLE) @ _LIDAR_TO_VEHICLE)[:3]}


def poses(scene: Scene, times: list[float]) -> list[Matrix]:
    """Camera 0 at each time -> camera 0 at the first, [4, 4]."""
    to_scene = [scene.vehicle_pose(time) @ _CAMERA_0_TO_VEHICLE for time in times]
    return [np.linalg.inv(to_scene[0]) @ pose for pose in to_scene]


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


FORMAT = SemanticKittiCity()
