"""ROS 1 bags, ROS 2 bags and mcap files, by topic: PointCloud2, Image and CompressedImage, CameraInfo, tf_static."""

import glob
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.datasets.nuscenes.tables import Pose, pose_matrices
from core.datasets.recordings.importers.writing import (
    Item,
    Source,
    calibration_text,
    cloud_bytes,
    read_file,
    times_text,
)
from core.errors import UserError

CLOUD, IMAGE, COMPRESSED, INFO = (
    f"sensor_msgs/msg/{name}" for name in ("PointCloud2", "Image", "CompressedImage", "CameraInfo")
)
_TF = "tf2_msgs/msg/TFMessage"
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_INTENSITIES = ("intensity", "i", "intensities", "reflectivity", "signal")
_LENSES = {"plumb_bob": "plumb_bob", "rational_polynomial": "plumb_bob", "equidistant": "fisheye", "fisheye": "fisheye"}
_IMAGE_WORDS = ("image", "image_raw", "image_color", "image_rect", "image_rect_color", "compressed")
_BAYER = {"bayer_rggb8": "BayerBG", "bayer_bggr8": "BayerRG", "bayer_gbrg8": "BayerGR", "bayer_grbg8": "BayerGB"}
_CHANNELS = dict(rgb8=3, bgr8=3, rgba8=4, bgra8=4, mono8=1) | {"8UC1": 1, "8UC3": 3} | dict.fromkeys(_BAYER, 1)


def sources(source: str, options: Mapping[str, Any]) -> Iterator[Source]:
    """The bags of a folder, or one bag.

    Args:
        options: points_topic (None: the only one), image_topics (None: all that have a CameraInfo), calibration (None:
            from CameraInfo and tf_static; else a calibration.yaml).
    Raises UserError: rosbags is not installed, the bag is broken, or it lacks a topic that was asked for.
    """
    import_rosbags()
    bags = [source] if _is_bag(source) else sorted(p for p in glob.glob(os.path.join(source, "*")) if _is_bag(p))
    if not bags:
        raise UserError(f"{source}: no bag (.bag, or a folder with metadata.yaml); give the bag or the folder of bags")
    for bag in bags:
        chosen = {name: options.get(name) for name in ("points_topic", "image_topics", "calibration")}
        name = os.path.basename(os.path.abspath(bag)).removesuffix(".bag")
        reader = _Bag(bag, chosen)
        yield Source(name, reader.total(), reader.items(), {"from": "rosbag", **chosen})


def import_rosbags() -> Any:
    """The package, or a UserError that says how to install it."""
    try:
        import rosbags.highlevel
        import rosbags.typesys
    except ImportError as error:
        raise UserError(f"--from rosbag needs the package rosbags ({error}): pip install rosbags") from None
    return rosbags


def _is_bag(path: str) -> bool:
    return path.endswith(".bag") or os.path.isfile(os.path.join(path, "metadata.yaml"))


@dataclass
class _Camera:
    frame: str = ""
    stamps: dict[str, float] = field(default_factory=dict)  # by stem
    info: Any = None


class _Bag:
    """One bag, read from its start to its end."""

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path, self.calibration = path, options["calibration"]
        with self._open() as reader:
            self.counts = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
        self.points_topic = options["points_topic"] or self._only_cloud()
        self._check(self.points_topic, (CLOUD,))
        self.image_topics: list[str] = options["image_topics"] or self._all_images()
        for topic in self.image_topics:
            self._check(topic, (IMAGE, COMPRESSED))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        rosbags = import_rosbags()
        store = rosbags.typesys.get_typestore(rosbags.typesys.Stores.ROS2_HUMBLE)
        try:
            with rosbags.highlevel.AnyReader([Path(self.path)], default_typestore=store) as reader:
                yield reader
        except (rosbags.highlevel.AnyReaderError, OSError, ValueError, KeyError) as error:
            what = " ".join(str(error).split())
            raise UserError(f"{self.path}: cannot be read as a bag ({what}); record it again") from None

    def _topics(self, kinds: tuple[str, ...]) -> list[str]:
        return sorted(topic for topic, (kind, _) in self.counts.items() if kind in kinds)

    def _only_cloud(self) -> str:
        found = self._topics((CLOUD,))
        if len(found) != 1:
            raise UserError(
                f"{self.path}: {len(found)} topics of PointCloud2 ({', '.join(found)}); name one: --points-topic"
            )
        return found[0]

    def _all_images(self) -> list[str]:
        infos = {_stem_of(topic) for topic in self._topics((INFO,))}
        found = {_stem_of(topic): topic for topic in self._topics((IMAGE, COMPRESSED))}  # one of raw and compressed
        return [topic for name, topic in found.items() if name in infos]

    def _check(self, topic: str, kinds: tuple[str, ...]) -> None:
        if self.counts.get(topic, ("", 0))[0] not in kinds:
            there = ", ".join(self._topics(kinds)) or "none"
            raise UserError(f"{self.path}: no topic {topic} of {' or '.join(kinds)}; there are: {there}")

    def total(self) -> int:
        """About as many items as `items` gives."""
        return sum(self.counts[topic][1] for topic in (self.points_topic, *self.image_topics))

    def items(self) -> Iterator[Item]:
        """Clouds and pictures in the order of the bag, then times and calibration."""
        cameras = {topic: _Camera() for topic in self.image_topics}
        stamps: dict[str, float] = {}
        lidar_frame = ""
        transforms: dict[tuple[str, str], NDArray[np.float64]] = {}
        infos = {_stem_of(topic): topic for topic in self._topics((INFO,))}
        info_of = {infos[_stem_of(t)]: t for t in self.image_topics if _stem_of(t) in infos}
        static = [topic for topic in self._topics((_TF,)) if topic.endswith("tf_static")]
        wanted = {self.points_topic, *self.image_topics, *info_of, *static}
        for connection, message in self._messages(wanted):
            topic = connection.topic
            if topic == self.points_topic:
                stem, lidar_frame = _stamp(message), message.header.frame_id
                stamps[stem] = int(stem) * 1e-9
                yield Item(f"lidar/{stem}.bin", partial(_cloud, message, self.path))
            elif topic in cameras:
                stem, camera = _stamp(message), cameras[topic]
                camera.frame, camera.stamps[stem] = message.header.frame_id, int(stem) * 1e-9
                compressed = connection.msgtype == COMPRESSED
                suffix = "jpg" if compressed and "png" not in message.format.lower() else "png"
                content = partial(bytes, message.data) if compressed else partial(_png, message, self.path, topic)
                yield Item(f"cameras/{_stem_of(topic)}/{stem}.{suffix}", content)
            elif topic in info_of:
                cameras[info_of[topic]].info = message
            else:
                transforms |= {(t.child_frame_id, t.header.frame_id): _matrix(t.transform) for t in message.transforms}
        if not stamps:
            raise UserError(f"{self.path}: topic {self.points_topic} holds no cloud; name another: --points-topic")
        yield Item("times.txt", partial(times_text, [stamps[stem] for stem in sorted(stamps)]))
        for topic, camera in cameras.items():
            times = [camera.stamps[stem] for stem in sorted(camera.stamps)]
            yield Item(f"cameras/{_stem_of(topic)}/times.txt", partial(times_text, times))
        if self.calibration:
            yield Item("calibration.yaml", partial(read_file, self.calibration))
        elif cameras:
            blocks = {_stem_of(t): self._block(t, camera, lidar_frame, transforms) for t, camera in cameras.items()}
            yield Item("calibration.yaml", partial(calibration_text, blocks))

    def _messages(self, topics: set[str]) -> Iterator[tuple[Any, Any]]:
        with self._open() as reader:
            for connection, _, raw in reader.messages([c for c in reader.connections if c.topic in topics]):
                yield connection, reader.deserialize(raw, connection.msgtype)

    def _block(
        self, topic: str, camera: _Camera, lidar: str, transforms: Mapping[tuple[str, str], NDArray[np.float64]]
    ) -> dict[str, Any]:
        if camera.info is None:
            raise UserError(
                f"{self.path}: no CameraInfo beside {topic}; give --calibration FILE, or leave the topic out"
            )
        path = _path(camera.frame, lidar, transforms)
        if path is None:
            raise UserError(
                f"{self.path}: tf_static does not lead from {camera.frame} ({topic}) to {lidar}; give --calibration "
                "FILE"
            )
        block = _intrinsics(camera.info, rectified="rect" in topic, where=f"{self.path}: {topic}")
        return {**block, "lidar_to_camera": np.linalg.inv(path)[:3].tolist()}


def _stem_of(topic: str) -> str:
    """The camera that a topic is of: /front/image_raw/compressed and /front/camera_info are of front."""
    parts = [part for part in topic.split("/") if part and part not in (*_IMAGE_WORDS, "camera_info")]
    return "_".join(parts) or "camera"


def _stamp(message: Any) -> str:
    stamp = message.header.stamp
    return f"{stamp.sec * 10**9 + stamp.nanosec:019d}"


def _cloud(message: Any, path: str) -> bytes:
    """x, y, z and intensity, 0 where the cloud has none."""
    order = ">" if message.is_bigendian else "<"
    names = [f.name for f in message.fields]
    missing = [axis for axis in "xyz" if axis not in names]
    if missing:
        raise UserError(f"{path}: its PointCloud2 has no field {missing[0]} ({', '.join(names)}); name another topic")
    intensity = next((name for name in _INTENSITIES if name in names), None)
    wanted = [f for f in message.fields if f.name in ("x", "y", "z", intensity)]
    dtype = np.dtype(
        {
            "names": [f.name for f in wanted],
            "formats": [order + _DTYPES[f.datatype] for f in wanted],
            "offsets": [f.offset for f in wanted],
            "itemsize": message.point_step,
        }
    )
    data = np.ascontiguousarray(message.data).reshape(message.height, -1)[:, : message.width * message.point_step]
    rows = np.ascontiguousarray(data).reshape(-1).view(dtype)
    fourth = rows[intensity] if intensity else np.zeros(len(rows))
    return cloud_bytes(np.stack([rows["x"], rows["y"], rows["z"], fourth], 1).astype(np.float32))


def _png(message: Any, path: str, topic: str) -> bytes:
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    if message.encoding not in _CHANNELS:
        raise UserError(f"{path}: {topic} is of encoding {message.encoding}; known are: {', '.join(_CHANNELS)}")
    count = _CHANNELS[message.encoding]
    image = rows[:, : message.width * count].reshape(message.height, message.width, count)
    if message.encoding in _BAYER:
        import cv2

        code = getattr(cv2, f"COLOR_{_BAYER[message.encoding]}2RGB")
        image = np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code), np.uint8)
    elif message.encoding.startswith("bgr") or message.encoding == "8UC3":
        image = image[..., 2::-1]
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _matrix(transform: Any) -> NDArray[np.float64]:
    q, t = transform.rotation, transform.translation
    return pose_matrices([Pose((t.x, t.y, t.z), (q.w, q.x, q.y, q.z))])[0]


def _path(
    start: str, end: str, transforms: Mapping[tuple[str, str], NDArray[np.float64]]
) -> NDArray[np.float64] | None:
    """float64 [4, 4] from frame `start` to frame `end` through the tree of (child, parent) transforms; None without."""
    steps = {**transforms, **{(b, a): np.linalg.inv(matrix) for (a, b), matrix in transforms.items()}}
    found, waiting = {start: np.eye(4)}, [start]
    while waiting and end not in found:
        here = waiting.pop()
        for (a, b), matrix in steps.items():
            if a == here and b not in found:
                found[b] = matrix @ found[here]
                waiting.append(b)
    return found.get(end)


def _intrinsics(info: Any, rectified: bool, where: str) -> dict[str, Any]:
    """Of a CameraInfo, whose names ROS 1 writes in capitals."""
    k, d, p = (np.asarray(getattr(info, name, getattr(info, name.upper(), None)), float) for name in "kdp")
    if rectified:
        return {"intrinsics": p.reshape(3, 4)[:, :3].tolist()}
    block: dict[str, Any] = {"intrinsics": k.reshape(3, 3).tolist()}
    if d.any():
        if info.distortion_model not in _LENSES:
            raise UserError(f"{where}: distortion {info.distortion_model} is unknown; give --calibration FILE")
        block["distortion"] = {"model": _LENSES[info.distortion_model], "coefficients": d.tolist()}
    return block
