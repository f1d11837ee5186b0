"""The message of Waymo's 3D semantic segmentation benchmark, waymo.open_dataset.SemanticSegmentationSubmission.

Field numbers are those of the data set's segmentation_submission.proto, segmentation_metrics.proto and dataset.proto.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

TEXTS = ("account_name", "unique_method_name", "authors", "affiliation", "description", "method_link")
CAMERA_LIDAR_TOP, TOP = 4, 1
SCHEMA = {
    "Submission": {
        **{name: (number, "*string" if name == "authors" else "string") for number, name in enumerate(TEXTS, 1)},
        "sensor_type": (7, "int32"),
        "past_frames": (8, "int32"),
        "future_frames": (9, "int32"),
        "frame_list": (10, "FrameList"),
    },
    "FrameList": {"frames": (1, "*Frame")},
    "Frame": {"laser": (1, "Laser"), "segment": (2, "string"), "timestamp": (3, "int64")},
    "Laser": {"name": (1, "int32"), "return1": (2, "RangeImage"), "return2": (3, "RangeImage")},
    "RangeImage": {"compressed_labels": (6, "bytes")},
    "Matrix": {"data": (1, "bytes"), "shape": (2, "Shape")},  # packed int32, each below 128 and so one byte
    "Shape": {"dims": (1, "*int32")},
}
"""{message: {field: (number, type)}}; * = repeated, a capital letter = another message."""


def _message_classes() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="submission.proto", package="waymo", syntax="proto2")
    for name, content in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in content.items():
            label = kinds.LABEL_REPEATED if kind[0] == "*" else kinds.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            if kind[0].isupper():
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".waymo.{kind}"
            else:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"waymo.{name}")) for name in SCHEMA}


MESSAGES = _message_classes()


class SubmittedFrame(NamedTuple):
    """One frame of a submission: segment, timestamp (microseconds), uint8 [H, W] classes of both returns."""

    segment: str
    timestamp: int
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]]


def encode_submission(texts: Mapping[str, Any], frames: Iterable[bytes]) -> bytes:
    """A whole submission.

    Args:
        texts: values of TEXTS; `authors` is a list.
        frames: as `encode_frame` gives them.
    """
    given: dict[str, Any] = {name: str(value) for name, value in texts.items() if value and name != "authors"}
    authors = texts.get("authors") or []
    given["authors"] = [authors] if isinstance(authors, str) else list(map(str, authors))
    message = MESSAGES["Submission"](**given, sensor_type=CAMERA_LIDAR_TOP, past_frames=0, future_frames=0)
    message.frame_list.SetInParent()
    for frame in frames:
        message.frame_list.frames.add().ParseFromString(frame)
    return bytes(message.SerializeToString())


def encode_frame(frame: SubmittedFrame) -> bytes:
    """A SegmentationFrame."""
    first, second = ({"compressed_labels": zlib.compress(_matrix(labels))} for labels in frame.labels)
    laser = {"name": TOP, "return1": first, "return2": second}
    return bytes(MESSAGES["Frame"](laser=laser, segment=frame.segment, timestamp=frame.timestamp).SerializeToString())


def _matrix(labels: NDArray[np.uint8]) -> bytes:
    """A MatrixInt32 [H, W, 2] of instance (0: none are told apart) and class."""
    values = np.stack([np.zeros_like(labels), labels], axis=-1)
    return bytes(MESSAGES["Matrix"](data=values.tobytes(), shape={"dims": values.shape}).SerializeToString())


def submitted_frames(message: bytes) -> Iterator[SubmittedFrame]:
    """The frames of a whole submission. Raises ValueError: it is not such a message."""
    for frame in _parse("Submission", message).frame_list.frames:
        if frame.laser.name != TOP:
            raise ValueError(f"labels of laser {frame.laser.name}")
        first, second = (
            _decode_labels(image.compressed_labels) for image in (frame.laser.return1, frame.laser.return2)
        )
        yield SubmittedFrame(frame.segment, frame.timestamp, (first, second))


def _decode_labels(compressed: bytes) -> NDArray[np.uint8]:
    matrix = _parse("Matrix", zlib.decompress(compressed))
    return np.frombuffer(matrix.data, np.uint8).reshape(matrix.shape.dims)[..., 1]


def _parse(name: str, content: bytes) -> Any:
    message = MESSAGES[name]()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return message
