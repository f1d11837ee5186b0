"""One split of nuScenes: its frames, and how their files are read."""

import os

import numpy as np
from numpy.typing import NDArray
from torchpack.utils.logging import logger

from core.datasets.base import Reader
from core.datasets.frame import CameraView, ClassTable, Frame, Sweep
from core.datasets.nuscenes.index import KNOWN_FRAMES, open_index
from core.datasets.nuscenes.submission import LidarsegSubmission
from core.datasets.nuscenes.tables import CAMERAS
from core.datasets.point_checks import LastColumn, valid_points
from core.datasets.reading import check_there, read_labels, read_points, text
from core.errors import UserError
from core.running.files import absent_files

RING = LastColumn("ring", 63, True, "x, y, z, intensity, ring")

# class id: name, RGB, the fine labels of nuScenes-lidarseg that it takes in
_CLASSES: tuple[tuple[str, tuple[int, int, int], tuple[int, ...]], ...] = (
    ("ignored", (0, 0, 0), (0, 1, 5, 7, 8, 10, 11, 13, 19, 20, 29, 31)),
    ("barrier", (112, 128, 144), (9,)),
    ("bicycle", (220, 20, 60), (14,)),
    ("bus", (255, 127, 80), (15, 16)),
    ("car", (255, 158, 0), (17,)),
    ("construction_vehicle", (233, 150, 70), (18,)),
    ("motorcycle", (255, 61, 99), (21,)),
    ("pedestrian", (0, 0, 230), (2, 3, 4, 6)),
    ("traffic_cone", (47, 79, 79), (12,)),
    ("trailer", (255, 140, 0), (22,)),
    ("truck", (255, 99, 71), (23,)),
    ("driveable_surface", (0, 207, 191), (24,)),
    ("other_flat", (175, 0, 75), (25,)),
    ("sidewalk", (75, 0, 75), (26,)),
    ("terrain", (112, 180, 60), (27,)),
    ("manmade", (222, 184, 135), (28,)),
    ("vegetation", (0, 175, 0), (30,)),
)


CLASSES = ClassTable.of(_CLASSES, things=range(1, 11))


class NuScenes(Reader):
    """One split of nuScenes.

    Args: see `open_dataset`; besides
        root: folder that holds samples/, sweeps/, lidarseg/ and `version`/.
        version: v1.0-trainval, v1.0-mini or v1.0-test.
        split: "train", "val" (of v1.0-mini: mini_train, mini_val) or "test".
        index_path: folder of the index file; the file is built where it is absent or of other tables.
        num_sweeps: at most 10; 0 saves memory where none are needed.
        frames: "available" are those whose LiDAR file and images are there.
    Raises UserError: the root or its tables are missing or broken, or the split has no frames there.
    """

    name = "nuscenes"
    classes = CLASSES
    features = ("intensity",)

    def __init__(
        self,
        root: str,
        version: str,
        split: str,
        index_path: str,
        num_sweeps: int = 5,
        invalid_points: str = "refuse",
        frames: str = "all",
    ) -> None:
        self.root, self.version, self.split = root, version, split
        self._drops = invalid_points == "drop"
        self._meta, self._arrays = open_index(root, version, index_path, split, num_sweeps)
        self._whole = frames != "available"
        if not self._whole:
            self._keep_available()

    def _keep_available(self) -> None:
        """Forgets the key frames of which the LiDAR file or an image is missing; the log says how many are left."""
        paths = np.column_stack([self._arrays["lidar_path"], self._arrays["camera_path"]])
        absent = frozenset(absent_files(self._join(path) for path in paths.reshape(-1).tolist()))
        there = np.array([absent.isdisjoint(map(self._join, row)) for row in paths.tolist()], bool)
        logger.info(f"{there.sum()} of {len(there)} key frames of split '{self.split}' are in {self.root}.")
        if not there.any():
            raise UserError(
                f"{self.root}: of all {len(there)} key frames of split '{self.split}' the LiDAR file or an image is "
                f"missing: unpack one of nuScenes' {self.version} archives with key frames into it"
            )
        self._arrays = {name: array[there] for name, array in self._arrays.items()}

    def __len__(self) -> int:
        return len(self._arrays["token"])

    def frame(self, index: int) -> Frame:
        """Frame `index`; see `Reader`."""
        row = {name: array[index] for name, array in self._arrays.items()}
        cameras = tuple(
            CameraView(
                name=name,
                token=text(row["camera_token"][k]),
                image_path=self._join(row["camera_path"][k]),
                width=int(row["camera_size"][k, 0]),
                height=int(row["camera_size"][k, 1]),
                lidar_to_image=row["lidar_to_image"][k],
            )
            for k, name in enumerate(CAMERAS)
        )
        sweeps = zip(row.get("sweep_path", ()), row.get("sweep_to_key", ()), strict=True)
        return Frame(
            token=self.token(index),
            scene=text(row["scene"]),
            lidar_path=self._join(row["lidar_path"]),
            label_path=self._join(row["label_path"]) if row["label_path"] else None,
            cameras=cameras,
            sweeps=tuple(Sweep(self._join(path), to_key) for path, to_key in sweeps if path),
        )

    def token(self, index: int) -> str:
        return text(self._arrays["token"][index])

    def load_points(self, frame: Frame) -> NDArray[np.float32]:
        """float32 [N, 4], x, y, z (m), intensity (0..255); see `Reader`."""
        return self._read_points(frame.lidar_path)

    def load_sweep(self, sweep: Sweep) -> NDArray[np.float32]:
        """float32 [M, 4] as `load_points`; see `Reader`."""
        return valid_points(self._read_points(sweep.path))

    def _read_points(self, path: str) -> NDArray[np.float32]:
        points = read_points(path, 5, RING, "unpack nuScenes' files again", self._drops)
        return np.ascontiguousarray(points[:, :4])

    def size_hint(self, view: CameraView) -> str:
        folder = os.path.join(self.root, self.version)
        return (
            "unpack nuScenes' images again; if it was resized on purpose, write the images' width and height into "
            f"{folder}/sample_data.json and the camera_intrinsic of that size into {folder}/calibrated_sensor.json"
        )

    def open_submission(self, directory: str) -> LidarsegSubmission:
        """The lidarseg benchmark's tree; see `Reader`."""
        return LidarsegSubmission(directory, self)

    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """Reads uint8 [num_points], class ids; see `Reader`."""
        if frame.label_path is None:
            raise UserError(self._no_labels(f"frame {frame.token} has no labels"))
        return read_labels(frame.label_path, "u1", num_points, self.classes, "unpack nuScenes-lidarseg again")

    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks that the split is complete and its files are there; see `Reader`."""
        expected = KNOWN_FRAMES.get((self.version, self._meta["num_scenes"], self.split)) if self._whole else None
        if expected is not None and len(self) != expected:
            raise UserError(
                f"{os.path.join(self.root, self.version)} has {len(self)} key frames of split '{self.split}', "
                f"expected {expected}: unpack the metadata of {self.version} again"
            )
        self._check("LiDAR", self._arrays["lidar_path"])
        self._check("camera", self._arrays["camera_path"])
        if sweeps and "sweep_path" in self._arrays:
            self._check("earlier LiDAR", self._arrays["sweep_path"])
        if labels:
            paths = self._arrays["label_path"]
            absent = np.sum(paths == b"")
            if absent:
                raise UserError(self._no_labels(f"{absent} of {len(paths)} key frames have no labels"))
            self._check("label", paths)

    def _check(self, kind: str, paths: NDArray[np.bytes_]) -> None:
        mend = f"unpack all of nuScenes' {self.version} archives into {self.root}, or set dataset.frames to available"
        wanted = [self._join(path) for path in paths.ravel().tolist() if path]
        check_there(f"{kind} file", wanted, mend, self.split)

    def _no_labels(self, what: str) -> str:
        table = os.path.join(self.root, self.version, "lidarseg.json")
        return f"{what} in {table}: download nuScenes-lidarseg and unpack it over {self.root}"

    def _join(self, path: bytes) -> str:
        return os.path.join(self.root, text(path))
