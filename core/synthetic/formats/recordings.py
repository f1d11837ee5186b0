"""The city as own recordings: a folder a scene, with a 32-beam LiDAR and three cameras."""

import os

import numpy as np
import yaml

from core.running.files import write_atomic
from core.synthetic.camera import jpeg, photograph
from core.synthetic.city import City, FrameFiles, numbers, seconds
from core.synthetic.labels import KINDS, kind_table
from core.synthetic.lidar import scan
from core.synthetic.poses import Matrix, rotation, transform
from core.synthetic.sensors import CAMERA_AXES, Camera, Lidar, Rig, scaled_intrinsic

FULL_IMAGE_SIZE = (720, 1280)
_LIDAR_TO_VEHICLE = transform(rotation(np.radians(90.0)), (0.9, 0.0, 1.9))  # its x looks to the left
# channel: x, y, z of the mounting (m), yaw (degrees, left positive)
_CAMERAS = {"left": (1.1, 0.4, 1.6, 80.0), "right": (1.1, -0.4, 1.6, -80.0), "front": (1.4, 0.0, 1.6, 0.0)}

# name: RGB, kind of class, the city's kinds; the class id is the position, from 1
_CLASSES = {
    "car": ((0, 0, 230), "thing", ("car",)),
    "truck": ((255, 99, 71), "thing", ("truck", "trailer", "excavator", "bus")),
    "two-wheeler": ((255, 61, 99), "thing", ("bicycle", "bicyclist", "motorcycle", "motorcyclist")),
    "person": ((220, 20, 60), "thing", ("adult", "child", "construction_worker")),
    "street furniture": ((112, 128, 144), "thing", ("barrier", "traffic_cone", "debris", "rubbish")),
    "road": ((0, 207, 191), "ground", ("road", "marking", "parking")),
    "sidewalk": ((75, 0, 75), "ground", ("sidewalk", "paving")),
    "terrain": ((112, 180, 60), "ground", ("grass", "soil")),
    "building": ((222, 184, 135), "", ("building", "wall", "kiosk")),
    "pole": ((255, 240, 150), "", ("post", "lamp", "sign_pole", "sign")),
    "vegetation": ((0, 175, 0), "", ("trunk", "leaves")),
}
_KINDS = {0: ("sky", "own_vehicle"), **{i: kinds for i, (_, _, kinds) in enumerate(_CLASSES.values(), 1)}}
CLASS_OF_KIND = np.array(kind_table(_KINDS), np.uint32)


class RecordingsCity:
    """See `CityFormat`. Points are counted by the city's own kinds."""

    folders = ("classes.yaml",)
    class_names = KINDS
    own_class = "own_vehicle"
    small = dict(train_scenes=8, val_scenes=3, test_scenes=1, frames=6, azimuth_steps=360, image_size=(180, 320))
    full_size = "--azimuth-steps 1800 --image-size 720 1280"

    def scene_names(self) -> dict[str, list[str]]:
        """As many as one likes."""
        return {split: [f"{split}_{number:03d}" for number in range(1000)] for split in ("train", "val", "test")}

    def frame_files(self, city: City, name: str, frame: int, labelled: bool) -> FrameFiles:
        """Cloud, pictures and labels."""
        scene, rig, time = city.scene(name), recordings_rig(city.azimuth_steps, city.image_size), seconds(frame)
        found = scan(scene, rig.lidar, time, city.rng(name, "lidar", frame))
        stem = f"{frame:06d}"
        files = {f"{name}/lidar/{stem}.bin": np.ascontiguousarray(found.points[:, :4]).tobytes()}
        shadow = scene.shadows(time)
        for camera in rig.cameras:
            image = photograph(scene, camera, time, shadow, city.rng(name, camera.channel, frame))
            files[f"{name}/cameras/{camera.channel}/{stem}.jpg"] = jpeg(image)
        if labelled:
            files[f"{name}/labels/{stem}.label"] = CLASS_OF_KIND[found.labels].astype("<u4").tobytes()
        return FrameFiles(files, np.bincount(found.labels, minlength=len(KINDS)).tolist())

    def finish(self, root: str, city: City, scenes: dict[str, list[str]]) -> None:
        """Writes classes.yaml, and calibration, poses and times of each scene."""
        rig = recordings_rig(city.azimuth_steps, city.image_size)
        classes = [
            {"name": name, "color": list(color), **({kind: True} if kind else {})}
            for name, (color, kind, _) in _CLASSES.items()
        ]
        texts = {"classes.yaml": yaml.safe_dump({"classes": classes}, sort_keys=False)}
        for name in (name for names in scenes.values() for name in names):
            scene, times = city.scene(name), [seconds(frame) for frame in range(city.frames)]
            poses = [scene.vehicle_pose(time) @ _LIDAR_TO_VEHICLE for time in times]
            texts[f"{name}/calibration.yaml"] = yaml.safe_dump({"cameras": calibration(rig)}, sort_keys=False)
            texts[f"{name}/poses.txt"] = "".join(f"{numbers(pose[:3])}\n" for pose in poses)
            texts[f"{name}/times.txt"] = "".join(f"{time:.6f}\n" for time in times)
        for filename, text in texts.items():
            with write_atomic(os.path.join(root, filename)) as file:
                file.write(text.encode())


def recordings_rig(azimuth_steps: int, image_size: tuple[int, int]) -> Rig:
    """A 32-beam LiDAR whose x axis looks to the left, and cameras to the left, to the right and ahead.

    Args:
        azimuth_steps: columns of a LiDAR turn.
        image_size: height and width in pixels.
    """
    lidar = Lidar(
        channel="lidar",
        to_vehicle=_LIDAR_TO_VEHICLE,
        elevations=np.radians(np.linspace(-25.0, 12.0, 32)),
        azimuths=(np.arange(azimuth_steps) + 0.5) * (2.0 * np.pi / azimuth_steps),
    )
    height, width = FULL_IMAGE_SIZE
    intrinsic = scaled_intrinsic(620.0, ((width - 1) / 2, (height - 1) / 2), FULL_IMAGE_SIZE, image_size)
    cameras = tuple(
        Camera(name, _mounting(*place), image_size[1], image_size[0], intrinsic, 0) for name, place in _CAMERAS.items()
    )
    return Rig(lidar, cameras)


def calibration(rig: Rig) -> dict[str, dict[str, list]]:
    """The blocks of calibration.yaml."""
    return {
        camera.channel: {
            "intrinsics": camera.intrinsic.tolist(),
            "lidar_to_camera": (np.linalg.inv(camera.to_vehicle) @ rig.lidar.to_vehicle)[:3].tolist(),
        }
        for camera in rig.cameras
    }


def _mounting(x: float, y: float, z: float, yaw: float) -> Matrix:
    return transform(rotation(np.radians(yaw)) @ CAMERA_AXES, (x, y, z))


FORMAT = RecordingsCity()
