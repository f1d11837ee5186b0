"""One split of SemanticKITTI: its frames, and how their files are read."""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import CameraView, Frame, Sweep
from core.datasets.point_checks import LastColumn, valid_points
from core.datasets.projection import Projection, project
from core.datasets.reading import check_there, read_labels, read_points
from core.datasets.semantic_kitti.classes import CLASSES
from core.datasets.semantic_kitti.sequence import (
    COUNTS,
    SPLITS,
    check_scans,
    image_sizes,
    index_file,
    list_scans,
    read_calibration,
    read_poses,
)
from core.datasets.semantic_kitti.submission import KittiSubmission
from core.errors import UserError

CAMERA = "image_2"
REMISSION = LastColumn("remission", 1, False, "x, y, z, remission")
MIN_DEPTH = 0.0  # m, exclusive; as KITTI's own tools have it


class SemanticKitti(Reader):
    """One split of SemanticKITTI. A frame is a scan; those before it in the sequence are its sweeps.

    Args: see `open_dataset`; besides
        root: folder that holds sequences/.
        index_path: folder of the image sizes, which are read once from the images.
        num_sweeps: they need poses.txt.
        frames: "available" are those of the split's scans that are there with their images.
    Raises UserError: the root has no scan of the split, or images, calibration or poses are missing or broken.
    """

    name = "semantic_kitti"
    classes = CLASSES
    features = ("remission",)

    def __init__(
        self,
        root: str,
        version: str,
        split: str,
        index_path: str,
        num_sweeps: int = 0,
        invalid_points: str = "refuse",
        frames: str = "all",
    ) -> None:
        self.root, self.version, self.split, self.num_sweeps = root, version, split, num_sweeps
        self.index_path = index_path
        self._drops = invalid_points == "drop"
        folders = {name: os.path.join(root, "sequences", name) for name in SPLITS[split]}
        self._whole = frames != "available"
        listed = {name: list_scans(folder, not self._whole) for name, folder in folders.items()}
        self.scans = {name: scans for name, scans in listed.items() if scans}
        if not self.scans:
            raise UserError(_no_scans(root, split))
        self.folders = {name: folders[name] for name in self.scans}
        self._frames = [(name, i) for name, scans in self.scans.items() for i in range(len(scans))]
        self._calibration = {name: read_calibration(folder) for name, folder in self.folders.items()}
        self._size = {name: image_sizes(self.folders[name], scans, index_path) for name, scans in self.scans.items()}
        self._poses = {n: read_poses(self.folders[n], scans) for n, scans in self.scans.items() if num_sweeps}

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> Frame:
        """Frame `index`; see `Reader`."""
        name, i = self._frames[index]
        scan, token = self.scans[name][i], self.token(index)
        width, height = map(int, self._size[name][i])
        image = self._path(name, CAMERA, f"{scan}.png")
        camera = CameraView(CAMERA, f"{token}_{CAMERA}", image, width, height, self._calibration[name].lidar_to_image)
        label_path = self._path(name, "labels", f"{scan}.label") if self.split != "test" else None
        lidar_path = self._path(name, "velodyne", f"{scan}.bin")
        return Frame(token, name, lidar_path, label_path, (camera,), self._sweeps(name, i))

    def _sweeps(self, name: str, i: int) -> tuple[Sweep, ...]:
        """Scans before scan i, nearest first; camera 0's poses and Tr lead from one LiDAR frame to the other."""
        earlier = range(i - 1, max(i - self.num_sweeps, 0) - 1, -1)
        if not earlier:
            return ()
        poses, tr = self._poses[name], self._calibration[name].lidar_to_camera
        to_key = np.linalg.inv(poses[i] @ tr)
        return tuple(
            Sweep(self._path(name, "velodyne", f"{self.scans[name][k]}.bin"), to_key @ poses[k] @ tr) for k in earlier
        )

    def token(self, index: int) -> str:
        name, i = self._frames[index]
        return f"{name}_{self.scans[name][i]}"

    def project(self, frame: Frame, points: NDArray[np.floating[Any]]) -> Projection:
        """Where points fall in image_2; those with x <= 0 are never seen. See `Reader`."""
        found = project(points, frame.cameras, MIN_DEPTH)
        ahead = points[:, 0] > 0
        return Projection(np.where(ahead, found.camera, np.int8(-1)), np.where(ahead[:, None], found.pixel, 0.0))

    def size_hint(self, view: CameraView) -> str:
        name = view.token.partition("_")[0]
        return (
            "unpack data_odometry_color.zip again; if it was resized on purpose, together with P2 of calib.txt, remove "
            f"{index_file(self.index_path, self.folders[name])}, so that sizes are read anew"
        )

    def load_points(self, frame: Frame) -> NDArray[np.float32]:
        """float32 [N, 4], x, y, z (m), remission (0..1); see `Reader`."""
        return self._read_points(frame.lidar_path)

    def load_sweep(self, sweep: Sweep) -> NDArray[np.float32]:
        """float32 [M, 4] as `load_points`; see `Reader`."""
        return valid_points(self._read_points(sweep.path))

    def _read_points(self, path: str) -> NDArray[np.float32]:
        return read_points(path, 4, REMISSION, "unpack data_odometry_velodyne.zip again", self._drops)

    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """Reads uint8 [num_points], class ids; see `Reader`."""
        if frame.label_path is None:
            raise UserError(f"scan {frame.token} has no labels: those of split '{self.split}' are not published")
        mend = "unpack data_odometry_labels.zip again"
        return read_labels(frame.label_path, "<u4", num_points, self.classes, mend)

    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks that the split is complete and its files are there; see `Reader`."""
        if self._whole:
            for name, scans in self.scans.items():
                check_scans(self.folders[name], scans)
            self._check_counts()
        self._check("LiDAR file", "velodyne", ".bin", "data_odometry_velodyne.zip")
        self._check("camera image", CAMERA, ".png", "data_odometry_color.zip")
        if labels:
            self._check("label file", "labels", ".label", "data_odometry_labels.zip")

    def lacking(self) -> list[str]:
        """Sequences of the split of which there are not as many scans as in the real data set."""
        return [name for name in SPLITS[self.split] if len(self.scans.get(name, ())) != COUNTS[name]]

    def _check_counts(self) -> None:
        if any(len(scans) == COUNTS[name] for name, scans in self.scans.items()):  # the real data set
            expected = sum(COUNTS[name] for name in SPLITS[self.split])
            if len(self) != expected:
                raise UserError(
                    f"{self.root} has {len(self)} scans of split '{self.split}', expected {expected}: unpack sequence "
                    f"{self.lacking()[0]} of data_odometry_velodyne.zip again, or set dataset.frames to available"
                )

    def _check(self, kind: str, folder: str, suffix: str, archive: str) -> None:
        paths = [self._path(n, folder, f"{self.scans[n][i]}{suffix}") for n, i in self._frames]
        check_there(kind, paths, f"unpack {archive} over the data root", self.split)

    def open_submission(self, directory: str) -> KittiSubmission:
        """The benchmark's tree and zip; see `Reader`."""
        return KittiSubmission(directory, self, self.lacking)

    def _path(self, name: str, *parts: str) -> str:
        return os.path.join(self.folders[name], *parts)


def _no_scans(root: str, split: str) -> str:
    first, last = SPLITS[split][0], SPLITS[split][-1]
    names = f"{first}..{last}" if first != last else first
    others = [name for part in SPLITS.values() for name in part if list_scans(os.path.join(root, "sequences", name))]
    mend = f"unpack sequence {names}" if others else "set it to the folder of sequences/"
    where = os.path.join(root, "sequences", names, "velodyne")
    return f"dataset.root {root}: no scan of split '{split}' in {where}: {mend}"
