"""Made-up samples and a tiny network, for tests of what lies between the data and the network."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.datasets.file_points import FilePoints, describe_points
from core.datasets.nuscenes import CLASSES
from core.datasets.sample import PER_VOXEL, Sample
from core.loader.collate import Batch, collate
from core.loader.sampler import EpochSampler
from core.models import TwoBranchNetwork
from core.models.two_branch import Outputs

NUM_CLASSES = 17
IMAGE_SIZE = (16, 24)
NUM_CAMERAS = 2
VOXELS = 60
NUM_POINTS = VOXELS + 5  # the last ones take no part


def sample(index: int = 0, epoch: int = 0, size: int = VOXELS, **changes: Any) -> Sample:
    """A sample of `size` <= VOXELS voxels with all kinds of labels; every third voxel is seen by no camera."""
    rng = np.random.default_rng([index, epoch])
    cells = rng.permutation(10 * 10 * 6)[:VOXELS]
    coords = np.column_stack([4 * (cells // 60), cells // 6 % 10, cells % 6]).astype(np.int32)
    camera = rng.integers(0, NUM_CAMERAS, VOXELS).astype(np.int8)
    camera[::3] = -1
    klass = (1 + coords[:, 0] // 4).astype(np.uint8)
    chance = rng.random(VOXELS)
    fields: dict[str, Any] = {
        "coords": coords - coords.min(0),
        "feats": np.column_stack([coords * 0.05, chance]).astype(np.float32),
        "camera": camera,
        "pixel": np.where(camera[:, None] >= 0, rng.uniform(-1, 1, (VOXELS, 2)), 0).astype(np.float32),
        "sparse_label": np.where(chance < 0.3, klass, 0).astype(np.uint8),
        "propagated_label": np.where(chance < 0.6, klass, 0).astype(np.uint8),
        "pseudo_label": np.where(chance > 0.6, klass, 0).astype(np.uint8),
        "dense_label": klass,
        "asso_target": np.where((chance < 0.5) & (camera >= 0), klass, 0).astype(np.uint8),
        "candidates": np.where(chance > 0.7, (1 << klass.astype(np.uint32)) | 2, 0).astype(np.uint32),
        "rows": np.arange(VOXELS),
        "token": f"frame-{index}",
        "index": index,
        "images": rng.integers(0, 256, (NUM_CAMERAS, 3, *IMAGE_SIZE)).astype(np.uint8),
        "point_voxel": np.arange(VOXELS),
        "point_rows": np.arange(VOXELS),
        "points": file_points(klass),
    }
    cut = {name: fields[name][:size] for name in (*PER_VOXEL, "point_voxel", "point_rows")}
    voxel = np.where(fields["points"].voxel < size, fields["points"].voxel, np.int32(-1))
    points = dataclasses.replace(fields["points"], voxel=voxel)
    return Sample(**{**fields, **cut, "points": points, **changes})


def file_points(dense_label: np.ndarray) -> FilePoints:
    """Points of a LiDAR file of which the first VOXELS take part, and are seen, each in its own voxel."""
    rest = NUM_POINTS - VOXELS
    voxel = np.pad(np.arange(VOXELS, dtype=np.int32), (0, rest), constant_values=-1)
    return describe_points(voxel, voxel >= 0, None, np.pad(dense_label, (0, rest)))


def batch(indices: Sequence[int] = (0, 1), **changes: Any) -> Batch:
    """Samples side by side, as the network takes them."""
    return collate([sample(index, **changes) for index in indices]).to("cpu")


def network(seed: int = 0, dropout: float = 0.0, proj_channel: int = 8) -> TwoBranchNetwork:
    """The real network, narrow and shallow."""
    torch.manual_seed(seed)
    blocks = (1, 1, 1, 1)
    return TwoBranchNetwork(NUM_CLASSES, cr=0.125, proj_channel=proj_channel, image_blocks=blocks, dropout=dropout)


class SmallNetwork(torch.nn.Module):
    """Stands in for the network where its inside does not matter: a layer on point features, one on images."""

    def __init__(self, seed: int = 0, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.points = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(dropout))
        self.classifier_vox, self.classifier_pix = torch.nn.Linear(8, NUM_CLASSES), torch.nn.Linear(3, NUM_CLASSES)

    def forward(self, coords: Any, feats: Any, images: Any, image_index: Any, pixel: Any, coarser: Any = ()) -> Outputs:
        features = self.points(feats)
        colors = (images.float() / 255).mean((3, 4)).flatten(0, 1)[image_index.clamp(min=0)]
        return Outputs(self.classifier_vox(features), self.classifier_pix(colors), features, 2 * features, features)


class MadeUpReader:
    """A reader without files."""

    classes, name, version, split = CLASSES, "made-up", "v1", "val"
    annotate, has_cameras = "in_view", True

    def __init__(self, num_frames: int = 2):
        self.num_frames = num_frames

    def __len__(self) -> int:
        return self.num_frames

    def frame(self, index: int) -> Any:
        return SimpleNamespace(index=index, token=f"frame-{index}")


class MadeUpData:
    """A data set of `sample`s that are others in every epoch; `reader` as the validation needs it."""

    mode = "train"

    def __init__(self, num_frames: int = 2):
        self.reader = MadeUpReader(num_frames)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        return sample(index, epoch)


def loader(num_frames: int = 2, batch_size: int = 1, shuffle: bool = True) -> DataLoader:
    """Batches of MadeUpData, in an order that depends on the epoch."""
    data: Any = MadeUpData(num_frames)
    return DataLoader(data, batch_size, sampler=EpochSampler(num_frames, shuffle=shuffle), collate_fn=collate)


def certain_outputs(vox: np.ndarray, pix: np.ndarray | None = None, features: np.ndarray | None = None) -> Outputs:
    """Outputs whose heads choose the given classes [M], all but certainly."""
    choices = (vox, vox if pix is None else pix)
    x_vox, x_pix = (20.0 * torch.nn.functional.one_hot(torch.as_tensor(x).long(), NUM_CLASSES) for x in choices)
    return Outputs(x_vox, x_pix, None, None, x_vox if features is None else torch.as_tensor(features).float())
