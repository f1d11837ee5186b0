"""What samples and batches are made of: voxels, association targets, batches, which process gets which frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.datasets.association import association_targets, superpixel_ids
from core.datasets.sample import Sample
from core.datasets.voxelize import voxelize
from core.loader.collate import LABELS, collate
from core.loader.sampler import EpochSampler


def brute_force(grid: np.ndarray, priority: np.ndarray) -> tuple[list[tuple[int, ...]], list[int], list[int]]:
    voxels: dict[tuple[int, ...], list[int]] = {}
    for i, cell in enumerate((grid - grid.min(0)).tolist()):
        voxels.setdefault(tuple(cell), []).append(i)
    representative = [max(members, key=lambda i: (priority[i], -i)) for members in voxels.values()]
    number = {cell: v for v, cell in enumerate(voxels)}
    return list(voxels), representative, [number[tuple(cell)] for cell in (grid - grid.min(0)).tolist()]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 200), extent=st.integers(1, 6), labelled=st.floats(0, 1))
def test_against_brute_force(seed: int, count: int, extent: int, labelled: float) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.integers(-extent, extent + 1, (count, 3))
    xyz = (grid + rng.uniform(-0.49, 0.49, (count, 3))) * 0.05
    priority = (rng.integers(1, 5, count) * (rng.random(count) < labelled)).astype(np.uint8)
    coords, representative, point_voxel = voxelize(xyz, 0.05, priority)
    expected = brute_force(grid, priority)
    assert coords.dtype == np.int32
    assert [tuple(cell) for cell in coords.tolist()] == expected[0]
    assert representative.tolist() == expected[1]
    assert point_voxel.tolist() == expected[2]


@pytest.mark.parametrize("voxel_size", [0.05, 0.06, 0.03, 0.07])
def test_multiples_of_the_voxel_size_stay_apart(voxel_size: float) -> None:
    steps = np.arange(-2000, 2000)
    xyz = np.stack([steps * voxel_size] * 3, axis=1).astype(np.float32)
    coords, _, point_voxel = voxelize(xyz, voxel_size)
    np.testing.assert_array_equal(coords[:, 1], np.arange(4000))
    np.testing.assert_array_equal(point_voxel, np.arange(4000))


def test_no_points_and_far_points() -> None:
    coords, representative, point_voxel = voxelize(np.zeros((0, 3), np.float32), 0.05)
    assert coords.shape == (0, 3) and len(representative) == len(point_voxel) == 0
    with pytest.raises(ValueError, match="span"):
        voxelize(np.array([[0.0, 0, 0], [1e7, 1e7, 1e7]]), 0.05)


GOLDEN = np.load(Path(__file__).parent / "goldens/asso_target.npz")


def test_lookup_golden() -> None:
    masks, pixels = GOLDEN["lookup/random/masks"], GOLDEN["lookup/random/pixel_coords"]
    camera = np.full(masks.shape[1], -1, np.int8)
    for k, mask in enumerate(masks):
        camera[mask] = k
    pixel = np.where(camera[:, None] >= 0, pixels[camera, np.arange(len(camera))], 0)
    ids = superpixel_ids(list(GOLDEN["lookup/random/raw_maps"]), camera, pixel)
    np.testing.assert_array_equal(ids, GOLDEN["lookup/random/superpixel_id"])


@pytest.mark.parametrize("case", ["mixed", "tiny"])
def test_targets_golden(case: str) -> None:
    superpixel_id, sparse_label = GOLDEN[f"asso/{case}/superpixel_id"], GOLDEN[f"asso/{case}/sparse_label"]
    targets = association_targets(superpixel_id, sparse_label, np.ones(len(superpixel_id), bool))
    assert targets.dtype == np.uint8
    np.testing.assert_array_equal(targets, GOLDEN[f"asso/{case}/asso_target"])


def test_lookup_by_hand() -> None:
    """Two cameras; the second's ids follow the first's maximum; an unseen point has 0."""
    maps = [np.array([[0, 1], [2, 3]], np.uint16), np.array([[0, 1], [1, 1]], np.uint16)]
    camera = np.array([0, 0, 1, 1, -1])
    pixel = np.array([[-1.0, -1.0], [-0.9, 1.0], [0.99, 0.99], [1.0, -1.0], [0.0, 0.0]])
    assert superpixel_ids(maps, camera, pixel).tolist() == [0, 2, 4, 5, 0]
    with pytest.raises(ValueError, match="pixel coordinates"):
        superpixel_ids(maps, camera, pixel + 2.5)


def test_unseen_points_take_no_part() -> None:
    targets = association_targets(np.zeros(3, np.int64), np.array([4, 0, 2], np.uint8), np.array([False, True, True]))
    assert targets.tolist() == [0, 2, 2]
    assert len(association_targets(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, bool))) == 0


def make_sample(size: int, index: int, num_points: int = 20) -> Sample:
    rng = np.random.default_rng(index)
    labels = {name: rng.integers(0, 17, size).astype(np.uint8) for name in LABELS if name != "candidates"}
    return Sample(
        coords=rng.integers(0, 50, (size, 3)).astype(np.int32),
        feats=rng.random((size, 4)).astype(np.float32),
        camera=rng.integers(-1, 2, size).astype(np.int8),
        pixel=rng.random((size, 2)).astype(np.float32),
        **labels,
        candidates=rng.integers(0, 1 << 17, size).astype(np.uint32),
        rows=np.arange(size),
        token=f"frame{index}",
        index=index,
        images=rng.integers(0, 256, (2, 3, 4, 6)).astype(np.uint8),
        point_voxel=rng.integers(0, max(size, 1), num_points if size else 0),
        point_rows=np.arange(num_points if size else 0),
    )


def test_collate() -> None:
    samples = [make_sample(5, 7), make_sample(0, 8), make_sample(9, 9)]
    batch = collate(samples)
    assert batch.sizes == [5, 0, 9] and batch.indices == [7, 8, 9] and batch.points is None
    assert batch.tokens == ["frame7", "frame8", "frame9"]
    assert batch.coords.dtype == torch.int32 and batch.coords[:, 3].tolist() == [0] * 5 + [2] * 9
    assert batch.images.shape == (3, 2, 3, 4, 6) and batch.images.dtype == torch.uint8
    start = 0
    for b, sample in enumerate(samples):
        part = slice(start, start + len(sample))
        start += len(sample)
        np.testing.assert_array_equal(batch.coords[part, :3], sample.coords)
        np.testing.assert_array_equal(batch.feats[part], sample.feats)
        np.testing.assert_array_equal(batch.pixel[part], sample.pixel)
        expected = [b * 2 + camera if camera >= 0 else -1 for camera in sample.camera.tolist()]
        assert batch.image_index[part].tolist() == expected
        for name in LABELS:
            np.testing.assert_array_equal(getattr(batch, name)[part], getattr(sample, name))
    moved = batch.to("cpu", non_blocking=True)
    assert moved.tokens == batch.tokens and torch.equal(moved.coords, batch.coords)
    for name in ("image_index", *LABELS):
        assert getattr(batch, name).element_size() <= 4 and getattr(moved, name).dtype == torch.int64
        np.testing.assert_array_equal(getattr(moved, name), getattr(batch, name))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("num_frames", "world_size"), [(10, 3), (9, 3), (2, 5), (1, 1), (7, 1)])
def test_sampler_gives_every_frame_once(num_frames: int, world_size: int, shuffle: bool) -> None:
    samplers = [EpochSampler(num_frames, rank, world_size, shuffle, seed=1, pad=False) for rank in range(world_size)]
    drawn = [list(sampler) for sampler in samplers]
    assert [len(part) for part in drawn] == [len(sampler) for sampler in samplers]
    assert sorted(index for part in drawn for _, index in part) == list(range(num_frames))


def test_sampler_epochs() -> None:
    sampler = EpochSampler(50, shuffle=True, seed=2)
    first = list(sampler)
    sampler.set_epoch(3)
    later = list(sampler)
    assert {epoch for epoch, _ in first} == {0} and {epoch for epoch, _ in later} == {3}
    assert [index for _, index in first] != [index for _, index in later]
    sampler.set_epoch(0)
    assert list(sampler) == first
    with pytest.raises(ValueError, match="rank"):
        EpochSampler(5, 2, 2)
