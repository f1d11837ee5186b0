"""One split of Waymo Open v2: its frames, and how their files are read."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import CameraView, Frame, Sweep
from core.datasets.point_checks import is_valid, valid_points
from core.datasets.projection import Projection
from core.datasets.reading import text
from core.datasets.waymo.classes import CLASSES, benchmark_iou
from core.datasets.waymo.components import IMAGE, LABELS, LIDAR, POSE, PROJECTION, ParquetFiles, again, column
from core.datasets.waymo.files import FOLDERS, check_states, file_states
from core.datasets.waymo.frame import Turn, WaymoFrame, WaymoSweep, WaymoView
from core.datasets.waymo.index import KNOWN_FRAMES, open_index
from core.datasets.waymo.range_image import seen_pixels
from core.datasets.waymo.segment import CAMERAS, SegmentFiles
from core.datasets.waymo.submission import SemanticSegmentationSubmission
from core.datasets.waymo.turn import Echoes, find_echoes, load_turn
from core.errors import UserError

CACHED_FRAMES = 4
NO_MATRIX = np.full((4, 4), np.nan)


class Waymo(Reader):
    """One split of Waymo Open v2: frames of the TOP LiDAR with labels; of the test split those to be submitted.

    Points are in the vehicle frame at the frame's timestamp: first those of return 1, row by row of the range image,
    then those of return 2.

    Args: see `open_dataset`; besides
        root: folder that holds training/, validation/, testing/, and in each a folder per component.
        index_path: folder of the index files; built where absent or of other files.
        num_sweeps: at most 10; 0 saves memory where none are needed.
        test_frames: file that lists the frames to submit.
        submission: what the benchmark's message says of the method; see `SemanticSegmentationSubmission`.
        frames: "available" are those of the segments that have a file in each component's folder.
    Raises UserError: files are missing, broken or do not fit together.
    """

    name = "waymo"
    classes = CLASSES
    features = ("tanh(intensity)", "elongation")

    def __init__(
        self,
        root: str,
        version: str,
        split: str,
        index_path: str,
        num_sweeps: int = 0,
        test_frames: str = "data/waymo/3d_semseg_test_frames.txt",
        submission: Mapping[str, Any] | None = None,
        invalid_points: str = "refuse",
        frames: str = "all",
    ) -> None:
        self._drops = invalid_points == "drop"
        self.root, self.version, self.split, self.num_sweeps = root, version, split, num_sweeps
        self._whole = frames != "available"
        self._meta, self._arrays = open_index(root, split, index_path, test_frames, num_sweeps, not self._whole)
        self._submission = dict(submission or {})
        self._files = ParquetFiles()
        self._echoes: OrderedDict[str, Echoes] = OrderedDict()
        self._segments = [text(name) for name in self._arrays["segment"]]
        sizes = self._arrays["camera_size"].reshape(-1, 2)
        self._image_size = int(sizes[:, 0].max()), int(sizes[:, 1].max())  # (width, height) of all, padded
        if (sizes[:, 0] != self._image_size[0]).any():
            raise UserError(f"{root}: images are {sizes[:, 0].min()} to {self._image_size[0]} wide, expected one width")

    def __len__(self) -> int:
        return len(self._arrays["timestamp"])

    @property
    def num_wanted(self) -> int:
        """Frames that `test_frames` lists; 0 for splits with labels."""
        return len(self._meta["wanted"] or ())

    def token(self, index: int) -> str:
        return f"{self._segments[self._arrays['frame_segment'][index]]}_{self._arrays['timestamp'][index]}"

    def frame(self, index: int) -> WaymoFrame:
        """Frame `index`; see `Reader`."""
        number = int(self._arrays["frame_segment"][index])
        range_row, pose_row, projection_row, label_row = self._arrays["rows"][index].tolist()
        labelled = label_row >= 0
        files = self._files_of(number)
        return WaymoFrame(
            token=self.token(index),
            scene=files.name,
            lidar_path=files.path(LIDAR),
            label_path=files.path(LABELS) if labelled else None,
            cameras=self._cameras(index, number),
            sweeps=self._sweeps(index) if self.num_sweeps else (),
            segment=files.name,
            timestamp=int(self._arrays["timestamp"][index]),
            turn=self._turn(number, range_row, pose_row, self._arrays["pose"][index]),
            projection_path=files.path(PROJECTION),
            projection_row=projection_row,
            label_row=label_row if labelled else None,
        )

    def _files_of(self, number: int) -> SegmentFiles:
        return SegmentFiles(self.root, FOLDERS[self.split], self._segments[number])

    def _cameras(self, index: int, number: int) -> tuple[WaymoView, ...]:
        rows = self._arrays["camera_rows"][index].tolist()
        sizes = self._arrays["camera_size"][number].tolist()
        width, height = self._image_size
        path, token = self._files_of(number).path(IMAGE), self.token(index)
        return tuple(
            WaymoView(name, f"{token}_{name}", path, width, height, NO_MATRIX, row, size[1])
            for name, row, size in zip(CAMERAS, rows, sizes, strict=True)
        )

    def _turn(self, number: int, range_row: int, pose_row: int, pose: NDArray[np.float64]) -> Turn:
        files, inclination = self._files_of(number), self._arrays["inclination"][number]
        lowest, highest = self._arrays["inclination_limits"][number].tolist()
        return Turn(
            range_path=files.path(LIDAR),
            pose_path=files.path(POSE),
            range_row=range_row,
            pose_row=pose_row,
            inclination=inclination if np.isfinite(inclination).any() else None,
            inclination_limits=(lowest, highest),
            extrinsic=self._arrays["extrinsic"][number],
            vehicle_to_world=pose,
        )

    def _sweeps(self, index: int) -> tuple[WaymoSweep, ...]:
        """The turns before a frame in its segment, nearest first."""
        arrays, scan = self._arrays, int(self._arrays["scan"][index])
        number = int(arrays["frame_segment"][index])
        to_vehicle = np.linalg.inv(arrays["pose"][index])
        sweeps = []
        for earlier in range(scan - 1, max(scan - 1 - self.num_sweeps, -1), -1):
            if arrays["scan_segment"][earlier] != number:
                break
            range_row, pose_row = arrays["scan_rows"][earlier].tolist()
            turn = self._turn(number, range_row, pose_row, arrays["scan_pose"][earlier])
            sweeps.append(WaymoSweep(turn.range_path, to_vehicle @ turn.vehicle_to_world, turn))
        return tuple(sweeps)

    def load_points(self, frame: Frame) -> NDArray[np.float32]:
        """float32 [N, 5], x, y, z (m), tanh(intensity), elongation, of both returns; see `Reader`."""
        assert isinstance(frame, WaymoFrame)
        points, echoes = load_turn(self._files, frame.turn, self._drops)
        self._remember(frame, echoes)
        return points

    def load_sweep(self, sweep: Sweep) -> NDArray[np.float32]:
        """float32 [M, 5] as `load_points`, in the vehicle frame at the sweep's time; see `Reader`."""
        assert isinstance(sweep, WaymoSweep)
        return valid_points(load_turn(self._files, sweep.turn, self._drops)[0])

    def echoes(self, frame: Frame) -> Echoes:
        """Which cells of the frame's range images hold its points."""
        assert isinstance(frame, WaymoFrame)
        if frame.token not in self._echoes:
            images = self._files.image(frame.lidar_path, LIDAR, frame.turn.range_row)
            self._remember(frame, find_echoes(frame.lidar_path, images))
        return self._echoes[frame.token]

    def _remember(self, frame: Frame, echoes: Echoes) -> None:
        self._echoes[frame.token] = echoes
        while len(self._echoes) > CACHED_FRAMES:
            self._echoes.popitem(last=False)

    def project(self, frame: Frame, points: NDArray[np.floating]) -> Projection:
        """The data set's own projection, which knows lens distortion and rolling shutter; see `Reader`.

        A pixel counts with 0 < u < W - 1 and 0 < v < H - 1 of its image without padding. The file's columns and rows
        are u and v as they stand: these count from the centre of the first pixel.
        """
        assert isinstance(frame, WaymoFrame)
        values = self._values(frame, PROJECTION, frame.projection_path, frame.projection_row, 6, len(points))
        heights = [0, *(view.image_height for view in frame.cameras if isinstance(view, WaymoView))]
        camera, pixel = seen_pixels(values, self._image_size[0], np.array(heights))
        if self._drops:
            camera[~is_valid(points)], pixel[~is_valid(points)] = -1, 0
        return Projection(camera, pixel)

    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """uint8 [num_points], class ids; see `Reader`."""
        assert isinstance(frame, WaymoFrame)
        if frame.label_path is None or frame.label_row is None:
            raise UserError(f"frame {frame.token} has no labels: split '{self.split}' of Waymo Open comes without")
        raw = self._values(frame, LABELS, frame.label_path, frame.label_row, 2, num_points)[:, 1]
        if raw.min() < 0 or raw.max() >= len(self.classes.from_raw):
            raise UserError(
                f"{frame.label_path}: frame {frame.timestamp} holds classes {raw.min()}..{raw.max()}, expected "
                f"0..{len(self.classes.from_raw) - 1}; {again(LABELS)}"
            )
        return self.classes.from_raw[raw]

    def _values(
        self, frame: WaymoFrame, component: str, path: str, row: int, channels: int, num_points: int
    ) -> NDArray[Any]:
        """[num_points, channels]: what a component holds for the frame's points."""
        images, echoes = self._files.image(path, component, row), self.echoes(frame)
        shapes = {image.shape for image in images}
        if shapes != {(*echoes.shape, channels)} or echoes.num_points != num_points:
            found = " and ".join(map(str, sorted(shapes)))
            raise UserError(
                f"{path}: frame {frame.timestamp} has images {found}, its range images {echoes.shape} and "
                f"{echoes.num_points} points; {again(component)}"
            )
        return echoes.values(images)

    def load_image(self, view: CameraView) -> NDArray[np.uint8]:
        """uint8 [view.height, view.width, 3], RGB, black below the image itself; see `Reader`."""
        from core.datasets.images import decode_image  # needs torch, which is slow to import

        assert isinstance(view, WaymoView)
        (data,) = self._files.row(view.image_path, IMAGE, view.row, [column(IMAGE, "image")])
        name, size = f"{view.token} in {view.image_path}", (view.width, view.image_height)
        image = decode_image(data.as_py() or b"", name, *size, again(IMAGE))
        padded = np.zeros((view.height, view.width, 3), np.uint8)
        padded[: view.image_height] = image
        return padded

    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks that the split is complete; that all other files are there, opening it did. See `Reader`."""
        expected = KNOWN_FRAMES.get((self.split, len(self._segments)))
        if expected is not None and len(self) != expected:
            raise UserError(
                f"{os.path.join(self.root, FOLDERS[self.split])} has {len(self)} labelled frames, expected {expected}: "
                f"download component {LABELS} of Waymo Open v2 again"
            )
        if labels and self.split == "test":
            raise UserError(f"split '{self.split}' of Waymo Open comes without labels: choose train or val")
        if labels:
            states = file_states(self.root, self.split, self._segments, [LABELS])
            check_states(self.root, self.split, self._segments, [LABELS], states)

    def open_submission(self, directory: str) -> SemanticSegmentationSubmission:
        """The message of the 3D semantic segmentation benchmark; see `Reader`."""
        return SemanticSegmentationSubmission(directory, self, self._submission, self.echoes, self.num_wanted)

    def benchmark_iou(self, confusion: NDArray[np.int64]) -> NDArray[np.float64]:
        """A class that is nowhere scores 1; see `Reader`."""
        return benchmark_iou(confusion)
