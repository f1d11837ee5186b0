"""One recording's folder: which clouds, pictures and labels belong together."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from core.datasets.frame import CameraView
from core.datasets.lens import Lens
from core.datasets.reading import image_size
from core.datasets.recordings.calibration import Calibration, CameraModel, read_calibration
from core.datasets.recordings.clouds import SUFFIXES
from core.datasets.recordings.texts import read_poses, read_times
from core.errors import UserError
from core.running.files import why_absent

CLOUD_FOLDERS = ("lidar", "velodyne", "points")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LABEL_SUFFIXES = (".label", ".npy")


@dataclass(frozen=True, eq=False)
class CameraFiles:
    """The pictures of one camera.

    Attributes:
        model: its calibration.
        paths: {position of the cloud: picture}.
        to_world: {position of the cloud: float64 [4, 4], camera -> world}, where the camera has poses of its own.
        size: width, height, pixels.
    """

    model: CameraModel
    paths: Mapping[int, str]
    to_world: Mapping[int, NDArray[np.float64]]
    size: tuple[int, int]


class Recording:
    """Args:
        name: of the recording.
        folder: where it lies.
        time_tolerance: pictures further from the cloud's time are not its own, s.

    Attributes:
        stems: of the clouds, sorted.
        clouds: their files.
        times: float64 [n], s, or None.
        poses: float64 [n, 4, 4], LiDAR -> world, or None.
        cameras: by name, in the order of the calibration.
        labels: {position of the cloud: label file}.

    Raises:
        UserError: files that do not belong together.
    """

    def __init__(self, name: str, folder: str, time_tolerance: float) -> None:
        self.name, self.folder, self.time_tolerance = name, folder, time_tolerance
        files = cloud_files(folder)
        self.clouds = [path for _, path in files]
        self.stems = [stem for stem, _ in files]
        twice = [stem for stem, following in zip(self.stems, self.stems[1:], strict=False) if stem == following]
        if twice:
            raise UserError(f"{os.path.dirname(self.clouds[0])}: two clouds are called {twice[0]}; keep one of them")
        self.position = {stem: i for i, stem in enumerate(self.stems)}
        self.times = self._optional("times.txt", read_times)
        self.calibration: Calibration = read_calibration(folder)
        self.poses = self._poses()
        self.cameras = self._cameras()
        self.labels = self._labels()

    def _optional(self, file: str, read):  # type: ignore[no-untyped-def]
        path = os.path.join(self.folder, file)
        return read(path, len(self.stems), "cloud") if os.path.exists(path) else None

    def _poses(self) -> NDArray[np.float64] | None:
        poses = self._optional("poses.txt", read_poses)
        if poses is None:
            return None
        moved = self.calibration.lidar_to_poses
        return poses if np.array_equal(moved, np.eye(4)) else np.linalg.inv(moved) @ poses @ moved

    def _labels(self) -> dict[int, str]:
        folder = os.path.join(self.folder, "labels")
        files = _stems(folder, LABEL_SUFFIXES)
        labels = {self.position[stem]: path for stem, path in files if stem in self.position}
        if files and not labels:
            raise UserError(_no_match(folder, "label file", files[0][0], self.stems[0]))
        return labels

    def _cameras(self) -> dict[str, CameraFiles]:
        folders = camera_folders(self.folder)
        for name, folder in folders.items():
            if name not in self.calibration.cameras:
                raise UserError(
                    f"{self.calibration.path}: no calibration of camera {name}, whose pictures are in {folder}; add "
                    "it, or remove the pictures"
                )
        return {n: self._camera(m, folders[n]) for n, m in self.calibration.cameras.items() if n in folders}

    def _camera(self, model: CameraModel, folder: str) -> CameraFiles:
        files = _stems(folder, IMAGE_SUFFIXES)
        paths = [path for _, path in files]
        of_cloud = self._match(folder, files)
        to_world: dict[int, NDArray[np.float64]] = {}
        pose_path = os.path.join(folder, "poses.txt")
        if os.path.exists(pose_path):
            if self.poses is None:
                raise UserError(f"{pose_path}: a camera's poses need poses.txt of the LiDAR beside them; add it")
            poses = read_poses(pose_path, len(files), "picture")
            to_world = {i: poses[k] for i, k in of_cloud.items()}
        size = image_size(paths[0], "record or import it again")
        return CameraFiles(model, {i: paths[k] for i, k in of_cloud.items()}, to_world, size)

    def _match(self, folder: str, files: Sequence[tuple[str, str]]) -> dict[int, int]:
        """{position of the cloud: position of its picture}: by time where both have times, else by name."""
        times_path = os.path.join(folder, "times.txt")
        if self.times is not None and os.path.exists(times_path):
            times = read_times(times_path, len(files), "picture")
            distance = np.abs(times[None, :] - self.times[:, None])
            nearest = distance.argmin(1)
            near = np.flatnonzero(distance.min(1) <= self.time_tolerance)
            found = {int(i): int(nearest[i]) for i in near}
            if not found:
                raise UserError(
                    f"{times_path}: no picture is within {self.time_tolerance:g} s of a cloud (nearest "
                    f"{distance.min():.3g} s); mend the times or raise dataset.time_tolerance"
                )
            return found
        found = {self.position[stem]: k for k, (stem, _) in enumerate(files) if stem in self.position}
        if not found:
            raise UserError(_no_match(folder, "picture", files[0][0], self.stems[0]))
        return found

    def views(self, index: int, token: str) -> tuple[CameraView, ...]:
        """The cameras that have a picture for cloud `index`."""
        return tuple(
            self._view(name, camera, index, token) for name, camera in self.cameras.items() if index in camera.paths
        )

    def _view(self, name: str, camera: CameraFiles, index: int, token: str) -> CameraView:
        model, to_camera = camera.model, camera.model.lidar_to_camera
        if index in camera.to_world and self.poses is not None:
            to_camera = np.linalg.inv(camera.to_world[index]) @ self.poses[index]
        matrix = np.eye(4)
        rows = model.intrinsic
        matrix[:3] = rows @ (to_camera if rows.shape[1] == 4 else to_camera[:3])
        lens = None if model.model == "none" else Lens(model.model, model.coefficients, model.intrinsic, to_camera)
        return CameraView(name, f"{token}_{name}", camera.paths[index], *camera.size, matrix, lens=lens)

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Time since the first cloud; counted in clouds where there are no times."""
        if self.times is None:
            return np.arange(len(self.stems), dtype=np.float64)
        return self.times - self.times.min()


def find_recordings(root: str) -> dict[str, str]:
    """{name: folder} of the recordings in a data root; the root itself where its clouds lie there.

    Raises UserError: there is none.
    """
    if not os.path.isdir(root):
        raise UserError(f"dataset.root {root}: no such folder; set it to the folder of the recordings")
    if cloud_files(root):
        return {os.path.basename(os.path.abspath(root)): root}
    folders = {
        entry.name: entry.path for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")
    }
    found = {name: folders[name] for name in sorted(folders) if cloud_files(folders[name])}
    if not found:
        where = ", ".join(f"NAME/{folder}" for folder in CLOUD_FOLDERS)
        raise UserError(
            f"dataset.root {root}: no point cloud ({', '.join(SUFFIXES)}) in {where} or NAME; set it to the folder of "
            "the recordings"
        )
    return found


def _check_links(folder: str) -> None:
    """Raises UserError where something of a folder is a link that leads nowhere: it would pass for not being given."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink() and not os.path.exists(entry.path):
                raise UserError(f"{entry.path} {why_absent(entry.path)}; remove the link if it is not needed")


def cloud_files(folder: str) -> list[tuple[str, str]]:
    """Stems and paths of the clouds of a recording, sorted; UserError where something in its folder is a dead link."""
    _check_links(folder)
    for place in (*(os.path.join(folder, name) for name in CLOUD_FOLDERS), folder):
        found = _stems(place, SUFFIXES)
        if found:
            return found
    return []


def camera_folders(folder: str) -> dict[str, str]:
    """{camera: folder of its pictures}: below cameras/, and image_0, image_1, ..."""
    places = [os.path.join(folder, "cameras"), folder]
    _check_links(places[0])
    found = {}
    for place in filter(os.path.isdir, places):
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            named = place != folder or entry.name.startswith("image_")
            if named and entry.is_dir() and _stems(entry.path, IMAGE_SUFFIXES):
                found[entry.name] = entry.path
    return found


def _stems(folder: str, suffixes: Sequence[str]) -> list[tuple[str, str]]:
    """(stem, path) of the files with one of these endings, sorted."""
    if not os.path.isdir(folder):
        return []
    names = [name for name in os.listdir(folder) if name.endswith(tuple(suffixes)) and not name.startswith(".")]
    return sorted((os.path.splitext(name)[0], os.path.join(folder, name)) for name in names)


def _no_match(folder: str, kind: str, stem: str, cloud: str) -> str:
    return f"{folder}: no {kind} is called as a cloud is (found '{stem}', clouds are called as '{cloud}'); rename them"
