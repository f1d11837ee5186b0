"""PandaSet: its gzipped tables, poses and pictures."""

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.nuscenes.tables import Pose, pose_matrices
from core.datasets.recordings.importers.pickles import read_table
from core.datasets.recordings.importers.writing import (
    Item,
    Source,
    calibration_text,
    cloud_bytes,
    label_bytes,
    poses_text,
    read_file,
    times_text,
)
from core.errors import UserError
from core.running.files import read_json

SENSORS = {"spinning": (0,), "forward": (1,), "both": (0, 1)}
_CLASSES = os.path.join(os.path.dirname(__file__), "pandaset_classes.yaml")


def sources(source: str, options: Mapping[str, Any]) -> Iterator[Source]:
    """The scenes of a PandaSet folder, or the one scene that it is.

    Args:
        options: lidar: which LiDAR's points, of SENSORS.
    Raises UserError: the folder holds no scene, or a file of one is missing or broken.
    """
    scenes = [source] if os.path.isdir(os.path.join(source, "lidar")) else sorted(glob.glob(f"{source}/*/lidar"))
    if not scenes:
        raise UserError(f"{source}: no PandaSet scene (SCENE/lidar) in it; give the folder of the scenes, or of one")
    for scene in scenes:
        folder = scene if scene == source else os.path.dirname(scene)
        yield _Scene(folder, options["lidar"]).source()


@dataclass(frozen=True)
class _Scene:
    folder: str
    lidar: str

    def source(self) -> Source:
        stems = sorted(os.path.basename(p).split(".")[0] for p in glob.glob(f"{self.folder}/lidar/*.pkl.gz"))
        if not stems:
            raise UserError(f"{self.folder}/lidar: no point cloud (*.pkl.gz) in it; unpack the scene again")
        cameras = sorted(name for name in _listed(f"{self.folder}/camera") if self._pictures(name))
        per_frame = 2 + len(cameras)
        with open(_CLASSES, encoding="utf-8") as file:
            classes = file.read()
        name = os.path.basename(os.path.abspath(self.folder))
        total = len(stems) * per_frame + len(cameras) + 3
        return Source(name, total, self._items(stems, cameras), {"from": "pandaset", "lidar": self.lidar}, classes)

    def _items(self, stems: list[str], cameras: list[str]) -> Iterator[Item]:
        to_world = self._poses("lidar", len(stems))
        for i, stem in enumerate(stems):
            yield Item(f"lidar/{stem}.bin", partial(self._cloud, stem, to_world[i]))
            if os.path.exists(f"{self.folder}/annotations/semseg/{stem}.pkl.gz"):
                yield Item(f"labels/{stem}.label", partial(self._labels, stem))
            for name in cameras:
                path = f"{self.folder}/camera/{name}/{stem}.jpg"
                if os.path.exists(path):
                    yield Item(f"cameras/{name}/{stem}.jpg", partial(read_file, path))
        camera_poses = {name: self._poses(f"camera/{name}", len(self._pictures(name))) for name in cameras}
        for name, poses in camera_poses.items():
            yield Item(f"cameras/{name}/poses.txt", partial(poses_text, poses))
        yield Item("poses.txt", partial(poses_text, to_world))
        yield Item("times.txt", partial(times_text, _json(f"{self.folder}/lidar/timestamps.json")))
        calibration = {name: self._calibration(name, camera_poses[name][0], to_world[0]) for name in cameras}
        yield Item("calibration.yaml", partial(calibration_text, calibration))

    def _pictures(self, camera: str) -> list[str]:
        return glob.glob(f"{self.folder}/camera/{camera}/*.jpg")

    def _table(self, stem: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        path = f"{self.folder}/lidar/{stem}.pkl.gz"
        table = read_table(path)
        missing = [name for name in "xyzid" if name not in table]
        if missing:
            raise UserError(f"{path}: no column {missing[0]} among {', '.join(table)}; unpack the scene again")
        return table, np.isin(table["d"], SENSORS[self.lidar])

    def _cloud(self, stem: str, to_world: NDArray[np.float64]) -> bytes:
        """x, y, z in the sensor's frame (the file has the world's), intensity."""
        table, chosen = self._table(stem)
        world = np.stack([table[name][chosen] for name in "xyz"], 1).astype(np.float64)
        sensor = (world - to_world[:3, 3]) @ to_world[:3, :3]
        return cloud_bytes(np.column_stack([sensor, table["i"][chosen]]))

    def _labels(self, stem: str) -> bytes:
        path = f"{self.folder}/annotations/semseg/{stem}.pkl.gz"
        raw, (_, chosen) = read_table(path).get("class", np.zeros(0, int)), self._table(stem)
        if len(raw) != len(chosen):
            raise UserError(f"{path}: {len(raw)} labels, its cloud has {len(chosen)} points; unpack the scene again")
        return label_bytes(raw[chosen])

    def _poses(self, sensor: str, count: int) -> NDArray[np.float64]:
        path = f"{self.folder}/{sensor}/poses.json"
        rows = _json(path)
        if len(rows) != count:
            raise UserError(f"{path}: {len(rows)} poses for {count} files beside it; unpack the scene again")
        return pose_matrices(
            [Pose([r["position"][axis] for axis in "xyz"], [r["heading"][axis] for axis in "wxyz"]) for r in rows]
        )

    def _calibration(
        self, camera: str, camera_to_world: NDArray[np.float64], lidar_to_world: NDArray[np.float64]
    ) -> dict[str, Any]:
        k = _json(f"{self.folder}/camera/{camera}/intrinsics.json")
        to_camera = np.linalg.inv(camera_to_world) @ lidar_to_world
        return {"intrinsics": [k[n] for n in ("fx", "fy", "cx", "cy")], "lidar_to_camera": to_camera[:3].tolist()}


def _listed(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _json(path: str) -> Any:
    return read_json(path, "unpack the scene again")
