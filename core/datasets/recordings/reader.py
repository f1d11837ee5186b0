"""One split of own recordings: its frames, and how their files are read."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader, Submission
from core.datasets.frame import Frame, Sweep
from core.datasets.reading import check_there, class_ids
from core.datasets.recordings.classes import FILE, read_classes
from core.datasets.recordings.clouds import Cloud, feature_names, read_cloud
from core.datasets.recordings.recording import Recording, find_recordings
from core.datasets.recordings.splits import frames_of_split
from core.errors import UserError

AGAIN = "record or import them again"


class Recordings(Reader):
    """One split of own recordings. A frame is a cloud; those before it in the recording are its sweeps.

    Args: see `open_dataset`; besides
        index_path: not used; nothing is kept.
        num_sweeps: they need poses.
        columns: of the point clouds; x, y, z and the features.
        classes: path of classes.yaml; None: that of the root.
        splits: see `frames_of_split`.
        time_tolerance: pictures further from the cloud's time are not its own, s.
    Raises UserError: the root holds no recording, or files of one that do not belong together.
    """

    name = "recordings"

    def __init__(
        self,
        root: str,
        version: str,
        split: str,
        index_path: str = "",
        num_sweeps: int = 0,
        columns: Sequence[str] = ("x", "y", "z", "intensity"),
        classes: str | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        time_tolerance: float = 0.05,
    ) -> None:
        self.root, self.version, self.split, self.num_sweeps = root, version, split, num_sweeps
        self.columns, self.features = list(columns), feature_names(columns)
        found = find_recordings(root)
        self.classes = read_classes(classes or os.path.join(root, FILE))
        self.recordings = {name: Recording(name, folder, time_tolerance) for name, folder in found.items()}
        self._frames = frames_of_split(splits or {"train": ["*"]}, split, self.recordings)
        self._check_tokens()

    def _check_tokens(self) -> None:
        tokens = Counter(self._token(name, i) for name, rec in self.recordings.items() for i in range(len(rec.stems)))
        token, count = max(tokens.items(), key=lambda item: item[1])
        if count > 1:
            raise UserError(f"dataset.root {self.root}: two clouds would be called {token}; rename a recording")

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def has_cameras(self) -> bool:
        """Whether any recording of the root, of whatever split, has pictures."""
        return any(recording.cameras for recording in self.recordings.values())

    def frame(self, index: int) -> Frame:
        """Frame `index`; see `Reader`."""
        name, i = self._frames[index]
        recording, token = self.recordings[name], self.token(index)
        views = recording.views(i, token)
        sweeps = self._sweeps(recording, i)
        to_world = None if recording.poses is None else recording.poses[i]
        return Frame(token, name, recording.clouds[i], recording.labels.get(i), views, sweeps, to_world=to_world)

    def _sweeps(self, recording: Recording, i: int) -> tuple[Sweep, ...]:
        earlier = range(i - 1, max(i - self.num_sweeps, 0) - 1, -1)
        if not earlier or recording.poses is None:
            return ()
        to_key = np.linalg.inv(recording.poses[i])
        return tuple(Sweep(recording.clouds[k], to_key @ recording.poses[k]) for k in earlier)

    def token(self, index: int) -> str:
        return self._token(*self._frames[index])

    def load_points(self, frame: Frame) -> NDArray[np.float32]:
        """float32 [N, 3 + F], the columns that were asked for; rows that are not finite are left out."""
        return self._cloud(frame.lidar_path).points

    def load_sweep(self, sweep: Sweep) -> NDArray[np.float32]:
        """As `load_points`; see `Reader`."""
        return self._cloud(sweep.path).points

    def _cloud(self, path: str) -> Cloud:
        return read_cloud(path, self.columns)

    def load_labels(self, frame: Frame, num_points: int) -> NDArray[np.uint8]:
        """Reads uint8 [num_points], class ids; see `Reader`."""
        if frame.label_path is None:
            raise UserError(f"{frame.lidar_path}: this cloud has no labels; add labels/ or take frames that have some")
        cloud = self._cloud(frame.lidar_path)
        raw = self._read_raw(frame.label_path)
        if len(raw) != cloud.num_rows or len(cloud.rows) != num_points:
            raise UserError(
                f"label file {frame.label_path} has {len(raw)} labels, its cloud {cloud.num_rows} points; make it again"
            )
        return class_ids(
            frame.label_path, raw[cloud.rows], self.classes, "add it to classes.yaml, or to 'ignored' there"
        )

    def _read_raw(self, path: str) -> NDArray[np.int64]:
        """Raw labels, int64 [R], of a .label (uint32; the high half is the instance) or a .npy file."""
        try:
            own = path.endswith(".npy")
            raw = np.load(path, allow_pickle=False) if own else np.fromfile(path, "<u4") & 0xFFFF
            if raw.ndim != 1 or raw.dtype.kind not in "iu" or (raw.astype(np.int64) < 0).any():
                raise ValueError(f"{raw.dtype} of shape {list(raw.shape)}, expected whole numbers on one axis")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"label file {path} cannot be read ({error}); make it again") from None
        return raw.astype(np.int64)

    def in_file(self, frame: Frame, values: NDArray, fill: int | float = 0) -> NDArray:
        """Values of all rows of the cloud's file; `fill` where `load_points` leaves the row out. See `Reader`."""
        cloud = self._cloud(frame.lidar_path)
        if len(values) == cloud.num_rows:
            return values
        spread = np.full((cloud.num_rows, *values.shape[1:]), fill, values.dtype)
        spread[cloud.rows] = values
        return spread

    def check_files(self, labels: bool = True, sweeps: bool = False) -> None:
        """Checks that files are there, labels where these are wanted, and poses; see `Reader`."""
        frames = list(self)
        check_there("point cloud", [frame.lidar_path for frame in frames], AGAIN)
        check_there("picture", [view.image_path for frame in frames for view in frame.cameras], AGAIN)
        if sweeps:
            check_there("point cloud", [sweep.path for frame in frames for sweep in frame.sweeps], AGAIN)
        if sweeps and self.num_sweeps:
            bare = sorted({name for name, _ in self._frames if self.recordings[name].poses is None})
            if bare:
                raise UserError(
                    f"{os.path.join(self.recordings[bare[0]].folder, 'poses.txt')}: missing; dataset.num_sweeps "
                    f"{self.num_sweeps} needs poses: add them, or set it to 0"
                )
        missing = [(name, i) for name, i in self._frames if i not in self.recordings[name].labels]
        if labels:
            check_there("label file", [frame.label_path for frame in frames if frame.label_path is not None], AGAIN)
        if labels and missing:
            name, i = missing[0]
            recording = self.recordings[name]
            count = f"{len(missing)} of {len(self)} in all (split '{self.split}')"
            raise UserError(
                f"{os.path.join(recording.folder, 'labels')}: no label file for {recording.stems[i]}, and {count}; "
                "label them by clicks, see docs/recordings.md"
            )

    def open_submission(self, directory: str) -> Submission:
        """There is no benchmark."""
        raise UserError("--submission: own recordings have no benchmark; write predictions with predict.py")

    def notes(self) -> list[str]:
        """What was understood of each recording; see `Reader`."""
        return [line for recording in self.recordings.values() for line in _describe(recording)]

    def _token(self, name: str, i: int) -> str:
        return f"{name}_{self.recordings[name].stems[i]}"


def _describe(recording: Recording) -> list[str]:
    count = len(recording.stems)
    have = [
        f"{count} clouds in {os.path.dirname(recording.clouds[0])}",
        f"{len(recording.labels)} with labels",
        "poses" if recording.poses is not None else "no poses",
        "times" if recording.times is not None else "no times",
    ]
    lines = [f"{recording.name}: {', '.join(have)}"]
    for name, camera in recording.cameras.items():
        lines.append(
            f"{recording.name}, camera {name}: {camera.size[0]} x {camera.size[1]}, pictures for {len(camera.paths)} "
            f"of {count} clouds, distortion {camera.model.model}" + (", poses of its own" if camera.to_world else "")
        )
    return lines
