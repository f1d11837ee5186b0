"""Superpixel look-up and association targets."""

from pathlib import Path

import numpy as np
import pytest

from core.datasets.association import association_targets, superpixel_ids

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
