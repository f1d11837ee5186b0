"""The city as Waymo Open v2: one Parquet file per segment and component."""

import zlib
from functools import cache
from typing import Any

from core.datasets.waymo.classes import CLASSES
from core.datasets.waymo.files import FOLDERS
from core.running.files import write_atomic
from core.synthetic.city import City, FrameFiles
from core.synthetic.formats.waymo.segment import segment_files, segment_shots
from core.synthetic.formats.waymo.sensors import waymo_rig

TEST_FRAMES_FILE = "3d_semseg_test_frames.txt"
_SEGMENTS = {"train": 798, "val": 202, "test": 150}
_EPOCH = 1_550_000_000_000_000  # microseconds; the first segment's first key frame
_SEGMENT_MICROSECONDS = 100_000_000
_EARLIER_TURNS = 1  # without labels, before each key frame but the first


class WaymoCity:
    """See `CityFormat`. All key frames of a segment lie in the same files, which are made with the first."""

    folders = tuple(FOLDERS.values())
    class_names = CLASSES.names
    own_class = ""
    small: dict[str, Any] = dict(
        train_scenes=10, val_scenes=4, test_scenes=1, frames=5, azimuth_steps=300, image_size=(320, 480)
    )
    full_size = "--azimuth-steps 2650 --image-size 1280 1920"

    def scene_names(self) -> dict[str, list[str]]:
        """Segments named like real ones."""
        names: dict[str, list[str]] = {split: [] for split in _SEGMENTS}
        for name, (split, _) in _segments().items():
            names[split].append(name)
        return names

    def frame_files(self, city: City, name: str, frame: int, labelled: bool) -> FrameFiles:
        """All components of a segment with its first key frame, nothing with the others."""
        if frame > 0:
            return FrameFiles({}, [0] * len(CLASSES.names))
        rig = waymo_rig(city.azimuth_steps, city.image_size)
        shots = segment_shots(_start(name), city.frames, _EARLIER_TURNS)
        files, counts = segment_files(city.scene(name), rig, shots, labelled, city.seed)
        folder = FOLDERS[_segments()[name][0]]
        return FrameFiles(
            {f"{folder}/{component}/{name}.parquet": data for component, data in files.items()}, counts.tolist()
        )

    def finish(self, root: str, city: City, scenes: dict[str, list[str]]) -> None:
        """Lists the key frames of the test segments, as Waymo lists those to be submitted."""
        shots = [(name, shot) for name in scenes["test"] for shot in segment_shots(_start(name), city.frames, 0)]
        with write_atomic(f"{root}/{TEST_FRAMES_FILE}") as file:
            file.write("".join(f"{name},{shot.timestamp}\n" for name, shot in shots).encode())


@cache
def _segments() -> dict[str, tuple[str, int]]:
    """Split and number, over all splits, of each segment's name."""
    splits = [split for split, count in _SEGMENTS.items() for _ in range(count)]
    return {_segment_name(number): (split, number) for number, split in enumerate(splits)}


def _segment_name(number: int) -> str:
    """Up to twenty digits, then the seconds from which to which it was cut from a drive."""
    digits = zlib.crc32(f"segment {number}".encode()) * 10**9 + zlib.crc32(f"{number}".encode()) % 10**9
    begin = 20 * (number % 97)
    return f"{digits}_{begin}_000_{begin + 20}_000"


def _start(name: str) -> int:
    return _EPOCH + _segments()[name][1] * _SEGMENT_MICROSECONDS


FORMAT = WaymoCity()
