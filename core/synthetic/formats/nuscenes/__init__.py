"""The city as nuScenes lidarseg: sweeps, key frames with six images, labels, all tables."""

import os

import numpy as np
from PIL import Image

from core.datasets.nuscenes.splits import official_scenes
from core.running.files import write_atomic, write_json
from core.synthetic.camera import jpeg, photograph
from core.synthetic.city import City, FrameFiles
from core.synthetic.formats.nuscenes.labels import CATEGORIES, FINE
from core.synthetic.formats.nuscenes.sensors import nuscenes_rig
from core.synthetic.formats.nuscenes.tables import MAP_FILE, build_tables
from core.synthetic.formats.nuscenes.timeline import camera_shot, label_filename, lidar_shots
from core.synthetic.lidar import scan

_VERSIONS = {"v1.0-trainval": ("train", "val"), "v1.0-test": ("test",)}


class NuScenesCity:
    """See `CityFormat`."""

    folders = ("samples", "sweeps", "lidarseg", "v1.0-trainval", "v1.0-test", "v1.0-mini")
    class_names = CATEGORIES
    own_class = "vehicle.ego"
    small = dict(train_scenes=10, val_scenes=4, test_scenes=1, frames=5, azimuth_steps=360, image_size=(360, 640))
    full_size = "--azimuth-steps 1084 --image-size 900 1600"

    def scene_names(self) -> dict[str, list[str]]:
        """The official ones."""
        return official_scenes()

    def frame_files(self, city: City, name: str, frame: int, labelled: bool) -> FrameFiles:
        """The LiDAR sweeps that lead to a key frame, its scan, labels and images."""
        scene, rig = city.scene(name), nuscenes_rig(city.azimuth_steps, city.image_size)
        files: dict[str, bytes] = {}
        for shot in lidar_shots(name, frame):
            found = scan(scene, rig.lidar, shot.time, shot.rng(city.seed))
            files[shot.filename(city.seed)] = found.points.tobytes()
        labels = FINE[found.labels]  # the loop ended with the key frame
        if labelled:
            files[label_filename(shot.token(city.seed))] = labels.tobytes()
        shadow = scene.shadows(shot.time)
        for camera in rig.cameras:
            view = camera_shot(name, frame, camera.channel, camera.delay)
            image = photograph(scene, camera, view.time, shadow, view.rng(city.seed))
            files[view.filename(city.seed)] = jpeg(image)
        counts = np.bincount(labels, minlength=len(CATEGORIES)).tolist()
        return FrameFiles(files, counts)

    def finish(self, root: str, city: City, scenes: dict[str, list[str]]) -> None:
        """Writes the tables of both versions, and a map."""
        with write_atomic(os.path.join(root, MAP_FILE)) as file:  # the devkit wants a map; nothing is drawn on it
            Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(file, "PNG")
        for version, splits in _VERSIONS.items():
            names = [name for split in splits for name in scenes[split]]
            absent = [name for name in self.scene_names()[splits[-1]] if name not in names]
            if not names:
                continue
            os.makedirs(os.path.join(root, "lidarseg", version), exist_ok=True)
            labelled = version != "v1.0-test"
            for table, rows in build_tables(city, names, absent, labelled).items():
                write_json(os.path.join(root, version, f"{table}.json"), rows)


FORMAT = NuScenesCity()
