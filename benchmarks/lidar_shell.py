"""Voxels as a LiDAR sees them: surfaces, not a filled volume."""

import numpy as np
import torch
from torch import Tensor

VOXEL_SIZE = 0.05  # m
SENSOR_HEIGHT = 1.84  # m
BEAMS = 32
BEAM_RANGE = (-30.67, 10.67)  # degrees, nuScenes' sensor
WALL_DISTANCES = (4.0, 45.0)  # m


def lidar_shell(num_voxels: int, batch_size: int = 1, seed: int = 0) -> Tensor:
    """Distinct voxels of a turning 32-beam LiDAR above a plane, among walls.

    With about 25 000 voxels a sample it has as many neighbours per voxel as a real nuScenes key frame (1.4 at stride 1,
    5 at stride 16). More voxels come from more directions, fewer from thinning the turn out.

    Returns int32 [num_voxels * batch_size, 4] (x, y, z, batch), in the order of the turn.
    """
    samples = []
    for index in range(batch_size):
        voxels = _turn(num_voxels, np.random.default_rng([seed, index]))
        samples.append(np.column_stack([voxels, np.full(len(voxels), index)]))
    return torch.from_numpy(np.concatenate(samples).astype(np.int32))


def _turn(num_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [num_voxels, 3], minimum 0."""
    sectors = rng.uniform(*WALL_DISTANCES, 48)
    steps = max(1090, int(num_voxels / 14))
    while True:
        points = _echoes(steps, sectors, rng)
        voxels, first = np.unique(np.round(points / VOXEL_SIZE).astype(np.int64), axis=0, return_index=True)
        if len(voxels) >= num_voxels:
            break
        steps = int(steps * 1.2)
    keep = np.sort(rng.permutation(len(voxels))[:num_voxels])
    voxels = voxels[keep][np.argsort(first[keep])]
    return voxels - voxels.min(0)


def _echoes(steps: int, sectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Points [N, 3], m: of each ray the nearer of the plane and its sector's wall."""
    azimuth = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    beams = max(BEAMS, round(BEAMS * (steps / 2500) ** 0.5))
    elevation = np.radians(np.linspace(*BEAM_RANGE, beams))
    a, e = (grid.ravel() for grid in np.meshgrid(azimuth, elevation, indexing="ij"))
    wall = sectors[(a / (2 * np.pi) * len(sectors)).astype(int)] / np.cos(e)
    ground = np.where(e < 0, -SENSOR_HEIGHT / np.sin(np.minimum(e, -1e-6)), np.inf)
    reach = np.minimum(wall, ground) + rng.normal(0, 0.02, len(a))
    return reach[:, None] * np.column_stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
