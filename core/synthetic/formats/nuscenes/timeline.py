"""When each sensor of a scene looks, and how its files and table rows are called."""

import hashlib
import zlib
from dataclasses import dataclass

import numpy as np

SWEEP_MICROSECONDS = 50_000
SWEEPS_PER_KEY_FRAME = 10
_EPOCH = 1_600_000_000_000_000  # microseconds; the first scene's first key frame
_SCENE_MICROSECONDS = 100_000_000


def token(*names: object) -> str:
    """A token of 32 hexadecimal digits, made of names."""
    return hashlib.md5("/".join(str(name) for name in names).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Shot:
    """One sensor looking once."""

    scene: str
    channel: str
    frame: int  # the key frame it is or leads to
    timestamp: int  # microseconds
    time: float  # seconds after the scene's first key frame
    is_key_frame: bool
    suffix: str  # of the file

    def filename(self, seed: int) -> str:
        """Path below the data root."""
        folder = "samples" if self.is_key_frame else "sweeps"
        return f"{folder}/{self.channel}/{logfile(seed, self.scene)}__{self.channel}__{self.timestamp}{self.suffix}"

    def token(self, seed: int) -> str:
        """Token of its sample_data and ego_pose."""
        return token(seed, self.scene, self.channel, self.timestamp)

    def rng(self, seed: int) -> np.random.Generator:
        """Random numbers of this shot alone."""
        names = zlib.crc32(self.scene.encode()), zlib.crc32(self.channel.encode())
        return np.random.default_rng([seed, *names, self.timestamp])


def logfile(seed: int, scene: str) -> str:
    """Name of the drive that a scene is cut from: one for each scene."""
    return f"city{seed}-{scene.removeprefix('scene-')}"


def lidar_shots(scene: str, frame: int) -> list[Shot]:
    """The sweeps that lead to key frame `frame`, oldest first, and the key frame itself; the first has no sweeps."""
    start = _EPOCH + int(scene.removeprefix("scene-")) * _SCENE_MICROSECONDS
    last = frame * SWEEPS_PER_KEY_FRAME
    first = last - SWEEPS_PER_KEY_FRAME + 1 if frame > 0 else last
    shots = []
    for i in range(first, last + 1):
        since = i * SWEEP_MICROSECONDS
        shots.append(Shot(scene, "LIDAR_TOP", frame, start + since, since / 1e6, i == last, ".pcd.bin"))
    return shots


def camera_shot(scene: str, frame: int, channel: str, delay: int) -> Shot:
    """The image of a key frame, `delay` microseconds after the LiDAR's time stamp."""
    key = lidar_shots(scene, frame)[-1]
    return Shot(scene, channel, frame, key.timestamp + delay, key.time + delay / 1e6, True, ".jpg")


def label_filename(token: str) -> str:
    """Path of a key frame's labels below the data root."""
    return f"lidarseg/v1.0-trainval/{token}_lidarseg.bin"
