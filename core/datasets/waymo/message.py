"""The message of Waymo's 3D semantic segmentation benchmark, waymo.open_dataset.SemanticSegmentationSubmission.

Field numbers are those of the data set's segmentation_submission.proto, segmentation_metrics.proto and dataset.proto.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.datasets.waymo.wire import Value, chunk, fields, integer

TEXTS = {
    "account_name": 1,
    "unique_method_name": 2,
    "authors": 3,
    "affiliation": 4,
    "description": 5,
    "method_link": 6,
}
SENSOR_TYPE, PAST_FRAMES, FUTURE_FRAMES, FRAME_LIST = 7, 8, 9, 10
CAMERA_LIDAR_TOP = 4
FRAME = 1  # of the list
LASER, SEGMENT, TIMESTAMP = 1, 2, 3  # of a frame
NAME, RETURNS, TOP = 1, (2, 3), 1  # of a laser
COMPRESSED_LABELS = 6  # of a range image
DATA, SHAPE, DIMS = 1, 2, 1  # of a matrix and its shape


class SubmittedFrame(NamedTuple):
    """One frame of a submission: segment, timestamp (microseconds), uint8 [H, W] classes of both returns."""

    segment: str
    timestamp: int
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]]


def head(texts: Mapping[str, Any]) -> bytes:
    """All fields before the list of frames.

    Args:
        texts: values of TEXTS; `authors` is a list.
    """
    encoded = b""
    for name, number in TEXTS.items():
        value = texts.get(name) or []
        encoded += b"".join(chunk(number, str(item)) for item in ([value] if isinstance(value, str) else value))
    return encoded + integer(SENSOR_TYPE, CAMERA_LIDAR_TOP) + integer(PAST_FRAMES, 0) + integer(FUTURE_FRAMES, 0)


def encode_frame(frame: SubmittedFrame) -> bytes:
    """A SegmentationFrame."""
    returns = zip(RETURNS, frame.labels, strict=True)
    laser = integer(NAME, TOP) + b"".join(
        chunk(number, chunk(COMPRESSED_LABELS, zlib.compress(_matrix(labels)))) for number, labels in returns
    )
    return chunk(LASER, laser) + chunk(SEGMENT, frame.segment) + integer(TIMESTAMP, frame.timestamp)


def _matrix(labels: NDArray[np.uint8]) -> bytes:
    """A MatrixInt32 [H, W, 2] of instance (0: none are told apart) and class."""
    values = np.stack([np.zeros_like(labels), labels], axis=-1)  # each below 128: a varint of one byte
    dims = b"".join(integer(DIMS, size) for size in values.shape)
    return chunk(DATA, values.tobytes()) + chunk(SHAPE, dims)


def submitted_frames(message: memoryview) -> Iterator[SubmittedFrame]:
    """The frames of a whole submission.

    Raises:
        ValueError: it is not such a message.
    """
    for number, content in fields(message):
        if number == FRAME_LIST:
            for _, frame in fields(_bytes(content)):
                yield _decode_frame(_bytes(frame))


def _decode_frame(message: memoryview) -> SubmittedFrame:
    found = dict(fields(message))
    laser = dict(fields(_bytes(found[LASER])))
    if laser[NAME] != TOP:
        raise ValueError(f"labels of laser {laser[NAME]}")
    first, second = (_decode_labels(_bytes(laser[number])) for number in RETURNS)
    return SubmittedFrame(bytes(_bytes(found[SEGMENT])).decode(), int(found[TIMESTAMP]), (first, second))  # type: ignore[arg-type]


def _decode_labels(range_image: memoryview) -> NDArray[np.uint8]:
    content = dict(fields(range_image))[COMPRESSED_LABELS]
    matrix = dict(fields(memoryview(zlib.decompress(_bytes(content)))))
    shape = [int(size) for _, size in fields(_bytes(matrix[SHAPE]))]  # type: ignore[arg-type]
    return np.frombuffer(_bytes(matrix[DATA]), np.uint8).reshape(shape)[..., 1]


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value
