"""Properties that hold for any input: against brute force, or by going there and back."""

import math
import tempfile

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.datasets.frame import CameraView
from core.datasets.projection import normalize_pixels, pixel_cells, project
from core.datasets.voxelize import voxelize
from core.label_files.files import (
    WeakLabel,
    read_pseudo_label,
    read_superpixels,
    read_weak_label,
    write_pseudo_label,
    write_superpixels,
    write_weak_label,
)
from core.loader.collate import LABELS, collate
from core.loader.sampler import EpochSampler
from core.sparse.coordinates import Coordinates, kernel_offsets
from tests import made_up

few = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@few
@given(seed=seeds, count=st.integers(1, 80), voxel_size=st.sampled_from([0.05, 0.1, 0.3]))
def test_voxels_lead_back_to_their_points(seed, count, voxel_size):
    """Every point lies in its voxel, every voxel has a representative of its own, no two voxels are equal."""
    xyz = np.random.default_rng(seed).uniform(-3, 3, (count, 3))
    coords, representative, point_voxel = voxelize(xyz, voxel_size)
    assert (point_voxel[representative] == np.arange(len(coords))).all()
    assert len(np.unique(coords, axis=0)) == len(coords) == point_voxel.max() + 1
    origin = np.round(xyz / voxel_size).min(0)
    assert (np.abs((coords[point_voxel] + origin) * voxel_size - xyz) <= voxel_size / 2 + 1e-9).all()


def camera(rng, index):
    """A camera somewhere, turned anyhow."""
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix = np.eye(4)
    matrix[:3] = np.array([[50, 0, 40], [0, 50, 30], [0, 0, 1.0]]) @ np.column_stack([turn, rng.uniform(-2, 2, 3)])
    return CameraView(f"camera {index}", f"token {index}", "", 80, 60, matrix)


@few
@given(seed=seeds, count=st.integers(0, 60), cameras=st.integers(0, 4))
def test_projection_against_one_point_at_a_time(seed, count, cameras):
    rng = np.random.default_rng(seed)
    views = [camera(rng, k) for k in range(cameras)]
    points = rng.uniform(-10, 10, (count, 4)).astype(np.float32)
    found = project(points, views)
    for i, point in enumerate(points):
        expected, pixel = -1, (0.0, 0.0)
        for k, view in enumerate(views):
            x, y, depth, _ = view.lidar_to_image @ [*point[:3].astype(float), 1.0]
            if depth > 1 and 0 < x / depth < 79 and 0 < y / depth < 59:
                expected, pixel = k, (x / depth, y / depth)
        assert found.camera[i] == expected
        np.testing.assert_allclose(found.pixel[i], pixel, atol=1e-9)
    normalized = normalize_pixels(found.pixel, found.camera, views)
    assert (np.abs(normalized) <= 1).all()
    cells = pixel_cells(normalized, (60, 80))[found.seen]
    np.testing.assert_array_equal(cells // 80, np.floor(found.pixel[found.seen, 1] + 1e-9))
    assert ((cells >= 0) & (cells < 60 * 80)).all()


@few
@given(seed=seeds, count=st.integers(0, 200), components=st.integers(0, 5))
def test_label_files_give_back_what_was_written(seed, count, components):
    rng = np.random.default_rng(seed)
    weak = WeakLabel(
        rng.integers(0, 256, count).astype(np.uint8),
        rng.integers(0, 17, count).astype(np.uint8),
        rng.integers(-1, components, count).astype(np.int32),
        rng.integers(0, 2**32, components).astype(np.uint32),
    )
    pseudo, ids = rng.integers(0, 256, count).astype(np.uint8), rng.integers(0, 65536, (count % 3, 1 + count % 7, 5))
    with tempfile.TemporaryDirectory() as folder:
        write_weak_label(folder, "a", weak, {"n": count}, "hash")
        write_pseudo_label(folder, "b", pseudo, "hash")
        cameras = [str(k) for k in range(len(ids))]
        write_superpixels(folder, "c", cameras, ids, "hash")
        again = read_weak_label(folder, "a", count, "hash")
        assert all(np.array_equal(value, vars(again)[name]) for name, value in vars(weak).items())
        assert np.array_equal(read_pseudo_label(folder, "b", count, "hash"), pseudo)
        assert np.array_equal(read_superpixels(folder, "c", cameras, ids.shape[1:], "hash"), ids)


@few
@given(kept=st.lists(st.integers(0, made_up.VOXELS), min_size=1, max_size=4))
def test_a_batch_holds_its_samples_side_by_side(kept):
    """Of samples of any size, empty ones too, each can be cut out again."""
    samples = [made_up.sample(i, size=count) for i, count in enumerate(kept)]
    batch, begin = collate(samples), 0
    assert batch.sizes == kept and len(batch.coords) == sum(kept)
    for b, sample in enumerate(samples):
        rows = slice(begin, begin + len(sample))
        begin += len(sample)
        assert (batch.coords[rows, 3] == b).all() and np.array_equal(batch.coords[rows, :3], sample.coords)
        for name in (*LABELS, "feats", "pixel"):
            assert np.array_equal(getattr(batch, name)[rows], getattr(sample, name))
        index = batch.image_index[rows].numpy()
        assert np.array_equal(np.where(index < 0, -1, index - b * len(sample.images)), sample.camera)


@few
@given(seed=seeds, count=st.integers(1, 60), tensor_stride=st.sampled_from([1, 2, 4]))
def test_kernel_maps_against_brute_force(seed, count, tensor_stride):
    """Neighbours (3 x 3 x 3) of a set at a stride, and the way down to the next one (2 x 2 x 2)."""
    coords = torch.from_numpy(np.random.default_rng(seed).integers(-4, 9, (count, 4)).astype(np.int32))
    coords[:, 3] %= 2
    coordinates = Coordinates(torch.unique(coords, dim=0))
    for kernel_size, stride in ((3, 1), (2, 2)):
        pairs, sizes = coordinates.kernel_map(kernel_size, stride, tensor_stride).full_table
        inputs = coordinates.at(tensor_stride).coords.tolist()
        outputs = coordinates.at(tensor_stride * stride).coords.tolist()
        expected, row = [], {tuple(voxel): i for i, voxel in enumerate(inputs)}
        for x, y, z in kernel_offsets(kernel_size, tensor_stride).tolist():
            near = [row.get((a + x, b + y, c + z, d)) for a, b, c, d in outputs]
            expected.append([(i, o) for o, i in enumerate(near) if i is not None])
        assert sizes == [len(found) for found in expected]
        assert pairs.tolist() == [list(pair) for found in expected for pair in found]


@few
@given(frames=st.integers(1, 40), ranks=st.integers(1, 8), batch_size=st.integers(1, 4), seed=seeds)
def test_processes_agree_on_steps_and_miss_no_frame(frames, ranks, batch_size, seed):
    """Training: equally many frames, hence steps, for each process, all frames among them; else each exactly once."""
    training = [EpochSampler(frames, rank, ranks, shuffle=True, seed=seed) for rank in range(ranks)]
    seen = [[index for _, index in sampler] for sampler in training]
    assert len({len(own) for own in seen}) == 1
    assert set(sum(seen, [])) == set(range(frames))
    steps = math.ceil(math.ceil(frames / ranks) / batch_size)
    assert {math.ceil(len(sampler) / batch_size) for sampler in training} == {steps}
    scoring = [EpochSampler(frames, rank, ranks, pad=False) for rank in range(ranks)]
    assert sorted(index for sampler in scoring for _, index in sampler) == list(range(frames))
