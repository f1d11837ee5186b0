"""A batch for timings: voxels on a LiDAR's shell, images of noise, as many labels as on nuScenes."""

import math

import numpy as np
import torch

from benchmarks.lidar_shell import VOXEL_SIZE, lidar_shell
from core.loader.collate import LABELLED, Batch, labelled_rows
from core.sparse.coordinates import coarser_sets

NUM_CLASSES = 17
CAMERAS = 6
SPARSE_SHARE, PROPAGATED_SHARE, NEGATIVE_SHARE, ASSOCIATION_SHARE = 0.008, 0.485, 0.445, 0.05


def made_up_batch(num_voxels: int, image_size: tuple[int, int], batch_size: int = 1, seed: int = 0) -> Batch:
    """A batch of `batch_size` samples with `num_voxels` voxels and six images [3, height, width] each.

    Voxels near each other lie near each other in their image, as in a real frame. The label shares are the published
    ones of nuScenes; about 5 % of the points have an association target.
    """
    rng = np.random.default_rng(seed)
    coords = lidar_shell(num_voxels, batch_size, seed)
    metres = coords[:, :3].numpy() * VOXEL_SIZE
    camera, pixel = _pixels(metres, coords[:, 3].numpy())
    count = len(coords)
    labels = rng.integers(1, NUM_CLASSES, count)
    chance = rng.random(count)
    mixed = (chance > 1 - NEGATIVE_SHARE) * ((1 << labels) | (1 << rng.integers(1, NUM_CLASSES, count)))

    def some(share: float) -> np.ndarray:
        return np.where(chance < share, labels, 0)

    classes = {
        "sparse_label": some(SPARSE_SHARE),
        "propagated_label": some(PROPAGATED_SHARE),
        "pseudo_label": np.zeros(count, np.int64),
        "dense_label": labels,
        "candidates": mixed,
    }
    asso_target = some(ASSOCIATION_SHARE)
    return Batch(
        coords=coords,
        feats=torch.from_numpy(np.column_stack([metres, 255 * chance]).astype(np.float32)),
        images=torch.from_numpy(rng.integers(0, 256, (batch_size, CAMERAS, 3, *image_size), dtype=np.uint8)),
        image_index=torch.from_numpy(coords[:, 3].numpy() * CAMERAS + camera),
        pixel=torch.from_numpy(pixel),
        **{name: torch.from_numpy(label) for name, label in classes.items()},
        asso_target=torch.from_numpy(asso_target),
        sizes=[num_voxels] * batch_size,
        tokens=[f"made-up-{index}" for index in range(batch_size)],
        indices=list(range(batch_size)),
        labelled=labelled_rows(
            {name: classes[field] for name, field in LABELLED.items()}, asso_target, np.ones(count, bool)
        ),
        coarser=coarser_sets(coords),
        points=None,
    )


def _pixels(metres: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of six cameras around the middle of its sample sees each point, int64 [M], and where, float32 [M, 2]."""
    centre = np.stack([metres[batch == b].mean(0) for b in range(batch.max() + 1)])[batch]
    x, y, z = (metres - centre).T
    turn = (np.arctan2(y, x) / (2 * math.pi) + 0.5) * CAMERAS
    camera = np.minimum(turn.astype(np.int64), CAMERAS - 1)
    height = np.clip(z / np.maximum(np.hypot(x, y), 0.5), -1, 1)
    return camera, np.column_stack([2 * (turn - camera) - 1, -height]).astype(np.float32)
