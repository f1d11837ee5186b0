"""Batches, and which process gets which frame."""

import numpy as np
import pytest
import torch

from core.datasets.sample import Sample
from core.loader.collate import LABELS, collate
from core.loader.sampler import EpochSampler


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
