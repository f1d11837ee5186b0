"""The network of the method: an image branch, a point branch, fusion at four scales, heads on both."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.models import point_branch as pb
from core.models.batch_norm import BatchNorm1d, BatchNorm2d
from core.models.fusion import Fusion, PointSampler
from core.models.swiftnet import NormReluConv, SwiftNetResNet
from core.sparse import Coordinates, SparseTensor, devoxelize, voxelize
from core.sparse.coordinates import Coarser

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass
class Outputs:
    """What the network says of each point (a voxel's representative), rows in input order.

    Attributes:
        x_vox, x_pix: [M, num_classes] logits of the point head and of the image head. x_pix means nothing where no
            camera sees the point, and is None where it is not asked for, or the network has no image head.
        embedding_vox, embedding_pix: [M, proj_channel] projections for association, or None without projections.
        features: [M, C] decoder features of the point branch, from which the E-step makes prototypes.
        image_map: [B * K, C', H', W'] of the image branch, what its head and projection read; where it is asked for
            (`keeping_image_map`), since it is large.
    """

    x_vox: Tensor
    x_pix: Tensor | None
    embedding_vox: Tensor | None
    embedding_pix: Tensor | None
    features: Tensor
    image_map: Tensor | None = None


class TwoBranchNetwork(pb.UpStages):
    """SPVCNN on voxels and points, SwiftNet on images; `spvcnn_swiftnet18_nusc_assop2p` of the published release.

    Args:
        num_classes: classes with the ignored one.
        in_channel: features of a point (x, y, z, intensity, ...).
        cr: width factor of the point branch.
        proj_channel: width of the association's projections; 0 leaves them out.
        image_blocks: basic blocks of the ResNet's stages.
        image_normalize: normalise images with ImageNet's mean and std instead of feeding 0..255.
        dropout: share dropped before the first and the third up stage.
        channels_last: memory layout of the image branch; the faster one, with other rounding.
        project: compute the projections, which only training needs.
    """

    def __init__(
        self,
        num_classes: int,
        in_channel: int = 4,
        cr: float = 0.64,
        proj_channel: int = 256,
        image_blocks: tuple[int, int, int, int] = (2, 2, 2, 2),
        image_normalize: bool = False,
        dropout: float = 0.3,
        channels_last: bool = True,
        project: bool = True,
    ):
        super().__init__()
        self.project, self.image_head, self.keep_image_map = project, True, False
        self.image_normalize = image_normalize
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        c = pb.scaled_widths(cr)
        self.pix_branch = SwiftNetResNet(image_blocks)
        image_channels = self.pix_branch.out_channels

        self.stem = pb.stem(in_channel, c[0])
        self.vox_downs = nn.ModuleList(pb.down_stage(c[i], c[i + 1]) for i in range(4))
        self.fusion_blocks = nn.ModuleList(
            Fusion(levels, c[i + 1]) for i, levels in enumerate(self.pix_branch.level_channels)
        )
        skips = (c[3], c[2], c[1], c[0])
        self.vox_ups = nn.ModuleList(pb.UpStage(c[i + 4], skips[i], c[i + 5]) for i in range(4))
        self.projector2d = self.projector3d = None
        if proj_channel:
            self.projector2d = nn.Sequential(
                NormReluConv(image_channels, proj_channel),
                BatchNorm2d(proj_channel),
                nn.ReLU(inplace=True),
                nn.Conv2d(proj_channel, proj_channel, 1),
            )
            self.projector3d = nn.Sequential(
                nn.Linear(c[8], proj_channel),
                BatchNorm1d(proj_channel),
                nn.ReLU(inplace=True),
                nn.Linear(proj_channel, proj_channel),
            )
        self.classifier_vox = nn.Sequential(nn.Linear(c[8], num_classes))
        self.classifier_pix = NormReluConv(image_channels, num_classes)
        self.point_transforms = nn.ModuleList(
            pb.point_transform(a, b) for a, b in ((c[0], c[4]), (c[4], c[6]), (c[6], c[8]))
        )
        self.dropout = nn.Dropout(dropout)
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def forward(
        self,
        coords: Tensor,
        feats: Tensor,
        images: Tensor,
        image_index: Tensor,
        pixel: Tensor,
        coarser: Sequence[Coarser] = (),
    ) -> Outputs:
        """Runs both branches.

        Args:
            coords: int32 [M, 4] distinct voxels (x, y, z, batch).
            feats: float32 [M, in_channel].
            images: [B, K, 3, H, W], 0..255, any dtype.
            image_index: int64 [M], b * K + camera, -1 where no camera sees the point.
            pixel: float32 [M, 2] (u, v) in [-1, 1] in that image.
            coarser: the voxel sets at strides 2, 4, 8, 16 (see `coarser_sets`); computed where they are not given.
        """
        sample = PointSampler(image_index, pixel)
        levels, image_map = self.pix_branch(self._prepare(images.flatten(0, 1)), decode=self.image_head)
        features = self._point_branch(SparseTensor(feats, Coordinates(coords, coarser=coarser)), levels, sample)
        x_pix = embedding_vox = embedding_pix = None
        if image_map is not None:
            x_pix = self._read_linear(
                F.relu(self.classifier_pix.norm(image_map), inplace=True), self.classifier_pix.conv, sample
            )
            if self.project and self.projector2d is not None and self.projector3d is not None:
                embedding_vox = self.projector3d(features)
                embedding_pix = self._read_linear(self.projector2d[:3](image_map), self.projector2d[3], sample)
        kept = image_map if self.keep_image_map else None
        return Outputs(self.classifier_vox(features), x_pix, embedding_vox, embedding_pix, features, kept)

    def _point_branch(self, x: SparseTensor, levels: list[Tensor], sample: Callable[[Tensor], Tensor]) -> Tensor:
        x0 = self.stem(x)
        z0 = devoxelize(x0)
        v = voxelize(z0, x0)
        skips = [x0]
        for down, fusion, level in zip(self.vox_downs, self.fusion_blocks, levels, strict=True):
            x = down(v)  # stride 2, 4, 8, 16
            points = fusion(devoxelize(x), sample(level.detach()))
            v = voxelize(points, x)
            skips.append(v)
        return self.decode(z0, points, v, skips)

    def _prepare(self, images: Tensor) -> Tensor:
        images = images.float()
        if self.image_normalize:
            mean, std = (_per_channel(values, images.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
            images = (images - mean) / std
        return images.contiguous(memory_format=self.memory_format)

    @staticmethod
    def _read_linear(maps: Tensor, conv: nn.Module, sample: PointSampler) -> Tensor:
        """Reads `conv(maps)`, a 1×1 convolution, at the points. Both are linear and interpolation weights sum to 1, so
        the convolution runs on the points alone, of which there are far fewer than pixels."""
        assert isinstance(conv, nn.Conv2d)
        return F.linear(sample(maps), conv.weight.flatten(1), conv.bias)


@lru_cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 [C, 1, 1] on the device. Kept, since copying it to a GPU makes the host wait."""
    return torch.tensor(values, device=device)[:, None, None]


@contextmanager
def without_unread_heads(network: nn.Module, image_head: bool = True) -> Iterator[None]:
    """Within it a two-branch network leaves out what only training reads: the projections, and without `image_head`
    the decoder of the image branch with its head. Other networks stay as they are."""
    if not isinstance(network, TwoBranchNetwork):
        yield
        return
    before = network.project, network.image_head
    network.project, network.image_head = False, image_head
    try:
        yield
    finally:
        network.project, network.image_head = before


@contextmanager
def keeping_image_map(network: nn.Module, keep: bool) -> Iterator[None]:
    """Within it a two-branch network's outputs have `image_map`, with `keep`. Other networks stay as they are."""
    if not (keep and isinstance(network, TwoBranchNetwork)):
        yield
        return
    network.keep_image_map = True
    try:
        yield
    finally:
        network.keep_image_map = False
