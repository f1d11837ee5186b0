"""Voxels against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.datasets.voxelize import voxelize


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
