"""Training samples and weak labels against the plain renderings in `benchmarks/plain`."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.plain import sample as plain
from benchmarks.plain import weak_labels as plain_labels
from core.datasets.base import Reader
from core.datasets.label_sources import LabelSources
from core.datasets.nuscenes import NuScenes
from core.datasets.sample import PER_VOXEL, Sample, SegmentationDataset
from core.label_files.files import WeakLabel, write_superpixels, write_weak_label
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate
from core.labeling.annotation.weak_label import gather_sweeps, pre_segment, read_key_frame, spread
from core.loader.collate import collate
from tests.entry import ROOT
from tests.fake_nuscenes import SIZE, VERSION, write_fake_nuscenes

REAL = os.path.join(os.path.dirname(ROOT), "shared", "data", "nuscenes_keyframe")
SEED, EPOCH = 5, 2


def write_labels(folder, reader: Reader, image_size: tuple[int, int]) -> None:
    """Random weak labels, and superpixels of uneven blocks, for the first frame."""
    rng = np.random.default_rng(0)
    frame = reader.frame(0)
    count = len(reader.load_points(frame))
    sparse = rng.choice(np.array([0, 1, 2, 16, 255], np.uint8), count, p=[0.9, 0.03, 0.03, 0.03, 0.01])
    component = rng.integers(-1, 3, count).astype(np.int32)
    label = WeakLabel(
        sparse, (component == 0).astype(np.uint8) * 5, component, np.array([0, 0b110, 1 << 16], np.uint32)
    )
    write_weak_label(str(folder / "weak"), frame.token, label, {}, "hash")
    steps = [np.cumsum(rng.random((len(frame.cameras), n)) < 0.15, axis=1) for n in image_size]
    ids = steps[0][:, :, None] * 100 + steps[1][:, None]
    write_superpixels(str(folder / "seeds"), frame.token, [view.token for view in frame.cameras], ids, "hash")


def make_both(folder, root: str, full: tuple[int, int], image_size: tuple[int, int], voxel_size: float):
    """The same training sample twice: ours and the plain one."""
    reader = NuScenes(root, VERSION, "train", str(folder / "index"), 0)
    write_labels(folder, reader, image_size)
    weak, seeds = str(folder / "weak"), str(folder / "seeds")
    data = SegmentationDataset(
        reader,
        "train",
        voxel_size=voxel_size,
        image_size=image_size,
        labels=LabelSources(weak, seeds),
        seed=SEED,
    )
    rng = np.random.default_rng([SEED, EPOCH, 0])
    angle, factor = rng.uniform(0, 2 * math.pi), rng.uniform(0.95, 1.05)
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, factor]])
    frame = plain.find_frame(root, VERSION, reader.frame(0).token)
    return data[EPOCH, 0], plain.make_sample(frame, weak, seeds, voxel_size, full, image_size, turn)


def check_same(ours: Sample, theirs: dict[str, np.ndarray]) -> None:
    """Voxels may stand in another order: the plain rendering's is that of their coordinates."""
    np.testing.assert_array_equal(ours.point_rows, theirs["point_rows"])
    order = np.lexsort(ours.coords.T[::-1])
    sorted_fields = {name: getattr(ours, name)[order] for name in PER_VOXEL}
    ours = replace(ours, **sorted_fields, point_voxel=np.argsort(order)[ours.point_voxel])
    np.testing.assert_array_equal(ours.coords, theirs["coords"])
    np.testing.assert_array_equal(ours.point_voxel, theirs["point_voxel"])
    np.testing.assert_array_equal(ours.rows, theirs["rows"])
    np.testing.assert_array_equal(ours.sparse_label, theirs["sparse"])
    np.testing.assert_array_equal(ours.propagated_label, theirs["propagated"])
    np.testing.assert_array_equal((ours.candidates[:, None] >> np.arange(32)) & 1, theirs["candidates"])
    np.testing.assert_array_equal(ours.asso_target, theirs["asso_target"])
    assert np.abs(ours.images - theirs["images"]).max() <= 1  # PyTorch's rounding is not PIL's
    np.testing.assert_allclose(ours.feats, theirs["feats"], rtol=1e-6, atol=1e-6)
    # the later of the cameras that see a point counts
    cameras = len(theirs["masks"])
    later = cameras - 1 - np.argmax(theirs["masks"][::-1], axis=0)
    np.testing.assert_array_equal(ours.camera, later)
    pixels = theirs["pixels"][later, np.arange(len(later))]
    np.testing.assert_allclose(ours.pixel, pixels, rtol=0, atol=1e-6)  # the last digits of float32
    assert ours.asso_target.any() and (ours.asso_target[ours.sparse_label == 0] > 0).any()


@pytest.mark.parametrize("voxel_size", [0.05, 4.0])
def test_made_up_frame(tmp_path, voxel_size: float) -> None:
    root = write_fake_nuscenes(tmp_path / "nuscenes")
    ours, theirs = make_both(tmp_path, str(root), SIZE[::-1], (18, 32), voxel_size)
    check_same(ours, theirs)
    assert len(ours) < len(ours.point_rows) or voxel_size < 1


@pytest.mark.skipif(not os.path.isdir(REAL), reason="needs ../shared/data/nuscenes_keyframe")
def test_real_frame(tmp_path) -> None:
    ours, theirs = make_both(tmp_path, REAL, (900, 1600), (360, 640), 0.05)
    check_same(ours, theirs)
    assert len(ours) > 10_000
    batch, reference = collate([ours, ours]), plain.collate([theirs, theirs])
    assert batch.images.shape == reference["images"].shape and len(batch.coords) == len(reference["coords"])


PARAMETERS = WeakLabelParameters()


@pytest.fixture(scope="module")
def frames(city, tmp_path_factory):
    """The city's reader and its frames."""
    reader = NuScenes(str(city), "v1.0-trainval", "train", str(tmp_path_factory.mktemp("index")), num_sweeps=5)
    return reader, list(reader)


def test_points_and_sweeps_are_the_same(frames):
    reader, listed = frames
    for frame in listed:
        points, labels, in_view = read_key_frame(reader, frame)
        expected = plain_labels.read_key_frame(frame, reader.classes)
        np.testing.assert_array_equal(points, expected.points)
        np.testing.assert_array_equal(labels, expected.labels)
        np.testing.assert_array_equal(in_view, expected.in_view)
        np.testing.assert_allclose(gather_sweeps(reader, frame, PARAMETERS), plain_labels.gather(frame), atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_annotation_of_the_same_components_is_the_same(frames, seed):
    reader, listed = frames
    classes = reader.classes
    for frame in listed:
        points, labels, in_view = read_key_frame(reader, frame)
        xyz, sweeps = points[in_view, :3], gather_sweeps(reader, frame, PARAMETERS)
        component, num_ground = pre_segment(xyz, sweeps, PARAMETERS, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        found = annotate(component, num_ground, labels[in_view], 17, classes.things, PARAMETERS, rng)
        ours = spread(found, np.flatnonzero(in_view), len(points))
        theirs = plain_labels.annotate(plain_labels.read_key_frame(frame, classes), component, num_ground, classes, rng)
        np.testing.assert_array_equal(ours.component, theirs.component)
        np.testing.assert_array_equal(ours.propagated, theirs.propagated)
        bits = [sum(1 << c for c in theirs.candidates.get(k, [])) for k in range(len(ours.candidates))]
        assert ours.candidates.tolist() == bits
        for label in (ours, theirs):
            label_of = label.sparse[label.sparse > 0]
            assert np.isin(np.where(label_of == 255, 0, label_of), labels).all()
        assert sorted(zip(ours.component, ours.sparse, strict=True)) == sorted(
            zip(theirs.component, theirs.sparse, strict=True)
        ), "as many points of each class in each component, whichever they are"
