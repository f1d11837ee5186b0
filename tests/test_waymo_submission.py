"""Waymo's submission message, read with field numbers that are written down here a second time, and its scores."""

import zlib

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from core.datasets.waymo import Waymo
from core.datasets.waymo.message import SubmittedFrame, encode_frame, encode_submission
from core.errors import UserError
from core.scores.metrics import class_iou
from tests.entry import logged
from tests.fake_waymo import HEIGHT, SEGMENTS, TIMES, WIDTH, range_images, write_fake_waymo

TEXTS = {"account_name": "me@example.org", "unique_method_name": "IUPC", "authors": ["A", "B"], "affiliation": ""}
TEXTS |= {"description": "weakly supervised", "method_link": ""}
# message -> {field: (number, type)}; "*" = repeated, a capital letter = another message
SCHEMA = {
    "Submission": {
        "account_name": (1, "string"),
        "unique_method_name": (2, "string"),
        "authors": (3, "*string"),
        "affiliation": (4, "string"),
        "description": (5, "string"),
        "method_link": (6, "string"),
        "sensor_type": (7, "int32"),
        "number_past_frames_exclude_current": (8, "int32"),
        "number_future_frames_exclude_current": (9, "int32"),
        "inference_results": (10, "FrameList"),
    },
    "FrameList": {"frames": (1, "*Frame")},
    "Frame": {
        "segmentation_labels": (1, "*Laser"),
        "context_name": (2, "string"),
        "frame_timestamp_micros": (3, "int64"),
    },
    "Laser": {"name": (1, "int32"), "ri_return1": (2, "RangeImage"), "ri_return2": (3, "RangeImage")},
    "RangeImage": {"segmentation_label_compressed": (6, "bytes")},
    "MatrixInt32": {"data": (1, "*packed int32"), "shape": (2, "Shape")},
    "Shape": {"dims": (1, "*int32")},
}


def message_classes():
    """Classes of the protobuf package for SCHEMA."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="made_here.proto", package="here", syntax="proto2")
    for name, content in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in content.items():
            label = kinds.LABEL_REPEATED if kind[0] == "*" else kinds.LABEL_OPTIONAL
            entry = message.field.add(name=field, number=number, label=label)
            kind = kind.removeprefix("*")
            entry.options.packed = kind.startswith("packed ")
            kind = kind.removeprefix("packed ")
            if kind[0].isupper():
                entry.type, entry.type_name = kinds.TYPE_MESSAGE, f".here.{kind}"
            else:
                entry.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if not entry.options.packed:
                entry.ClearField("options")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"here.{name}")) for name in SCHEMA}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    root = tmp_path_factory.mktemp("waymo")
    write_fake_waymo(root, test=True)
    return Waymo(str(root), "v2", "test", str(root / "index"), 0, str(root / "test_frames.txt"), submission=TEXTS)


def predicted(frame, reader):
    """Classes 1..22 that tell the point."""
    return (np.arange(len(reader.load_points(frame))) % 22 + 1).astype(np.uint8)


def write(reader, directory):
    submission = reader.open_submission(str(directory))
    for frame in reader:
        submission.write(frame, predicted(frame, reader))
    return submission


def test_message_parses_with_independent_field_numbers(reader, tmp_path):
    write(reader, tmp_path).finish()
    classes = message_classes()
    content = (tmp_path / "submission.bin").read_bytes()
    found = classes["Submission"].FromString(content)
    assert (found.account_name, found.unique_method_name) == ("me@example.org", "IUPC")
    assert list(found.authors) == ["A", "B"] and found.description == "weakly supervised"
    assert not found.HasField("affiliation") and not found.HasField("method_link")
    assert found.sensor_type == 4
    assert found.number_past_frames_exclude_current == 0 == found.number_future_frames_exclude_current
    frames = [(frame.context_name, frame.frame_timestamp_micros) for frame in found.inference_results.frames]
    assert frames == [(SEGMENTS[0], TIMES[0]), (SEGMENTS[0], TIMES[1]), (SEGMENTS[1], TIMES[1])]
    for frame, own in zip(found.inference_results.frames, reader, strict=True):
        (laser,) = frame.segmentation_labels
        assert laser.name == 1
        masks = [image[..., 0] > 0 for image in range_images(frame.frame_timestamp_micros)]
        labels = []
        for image, mask in zip((laser.ri_return1, laser.ri_return2), masks, strict=True):
            matrix = classes["MatrixInt32"].FromString(zlib.decompress(image.segmentation_label_compressed))
            assert list(matrix.shape.dims) == [HEIGHT, WIDTH, 2]
            values = np.array(matrix.data).reshape(HEIGHT, WIDTH, 2)
            assert not values[..., 0].any() and not values[~mask].any()
            labels.append(values[mask][:, 1])
        np.testing.assert_array_equal(np.concatenate(labels), predicted(own, reader))
    assert found.SerializeToString() == content  # no unknown field, nothing out of order
    assert sorted(path.name for path in tmp_path.iterdir()) == ["submission.bin"]


@pytest.mark.parametrize("name", ["account_name", "unique_method_name"])
def test_required_texts(reader, tmp_path, name):
    reader = Waymo(reader.root, "v2", "test", f"{reader.root}/index", 0, f"{reader.root}/test_frames.txt", {})
    reader._submission = {**TEXTS, name: ""}
    with pytest.raises(UserError, match=f"dataset.submission.{name} is empty"):
        reader.open_submission(str(tmp_path))


def test_part_of_the_listed_frames_is_refused_by_the_server(reader, tmp_path, monkeypatch):
    with logged() as lines:
        write(reader, tmp_path / "whole").finish()
    assert not any(line.startswith("WARNING") for line in lines)
    monkeypatch.setitem(reader._meta, "wanted", [*reader._meta["wanted"], ["another", 1]])
    with logged() as lines:
        write(reader, tmp_path / "part").finish()
    (warning,) = (line for line in lines if line.startswith("WARNING"))
    assert f"labels of {len(reader)} frames; the benchmark's server wants all {len(reader) + 1}" in warning


def test_missing_frame(reader, tmp_path):
    submission = write(reader, tmp_path)
    token = reader.frame(1).token
    (tmp_path / f"frames/{token}.bin").unlink()
    with pytest.raises(UserError, match=rf"{token}.bin: missing in the submission"):
        submission.finish()


def image(labels):
    """[H, W] with the given labels at its first cells."""
    values = np.zeros(HEIGHT * WIDTH, np.uint8)
    values[: len(labels)] = labels
    return values.reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no labels of frame 1000"),
        ([(SEGMENTS[0], TIMES[0], [])] * 2, "is there twice or not of this split"),
        ([(SEGMENTS[1], TIMES[2], [])], "is there twice or not of this split"),
        ([(SEGMENTS[0], TIMES[0], [0, 23])], r"return 1 has labels \(4, 12\) of 0..23, expected \(4, 12\) of 0..22"),
        ([(SEGMENTS[0], TIMES[0], [1])], "return 1 has labels without an echo"),
    ],
)
def test_wrong_messages_are_found(reader, tmp_path, frames, message):
    submission = reader.open_submission(str(tmp_path))
    parts = [
        encode_frame(SubmittedFrame(segment, time, (image(labels), image([])))) for segment, time, labels in frames
    ]
    (tmp_path / "submission.bin").write_bytes(encode_submission(TEXTS, parts))
    with pytest.raises(UserError, match=message):
        submission.check()


@pytest.mark.parametrize("cut", [1, 30])
def test_cut_message_is_found(reader, tmp_path, cut):
    submission = write(reader, tmp_path)
    submission.finish()
    content = (tmp_path / "submission.bin").read_bytes()
    (tmp_path / "submission.bin").write_bytes(content[:-cut])
    with pytest.raises(UserError, match="not a whole submission"):
        submission.check()


def confusion(entries):
    matrix = np.zeros((23, 23), np.int64)
    for (label, prediction), count in entries.items():
        matrix[label, prediction] = count
    return matrix


CONFUSION = confusion({(1, 1): 6, (1, 0): 2, (18, 18): 5, (18, 3): 5, (0, 4): 9, (0, 1): 50})
"""Cars: 2 of 8 are predicted undefined. Bus: predicted without being there. Points without a label count nowhere."""


def test_score_of_the_benchmark_beside_ours(reader):
    rule, ours = reader.benchmark_iou(CONFUSION), class_iou(CONFUSION)
    expected = np.ones(23)
    expected[[0, 1, 3, 18]] = np.nan, 0.75, 0.0, 0.5
    np.testing.assert_array_equal(rule, expected)
    assert np.nanmean(rule) == pytest.approx((19 + 0.75 + 0.5) / 22)
    assert np.flatnonzero(~np.isnan(ours)).tolist() == [1, 18] and np.nanmean(ours) == pytest.approx(0.625)
