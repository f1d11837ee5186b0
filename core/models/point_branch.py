"""Parts of the point branch: SPVCNN (Tang et al., ECCV 2020), MinkUNet with a branch of points."""

from collections.abc import Sequence

from torch import Tensor, nn

from core.models.batch_norm import BatchNorm1d
from core.sparse import Conv3d, SparseSequential, SparseTensor, concatenate, devoxelize, voxelize

WIDTHS = (32, 32, 64, 128, 256, 256, 128, 96, 96)


def scaled_widths(factor: float) -> tuple[int, ...]:
    """Channels of stem, four down and four up stages, times the width factor `cr`, cut to int."""
    return tuple(int(factor * width) for width in WIDTHS)


class ConvBlock(nn.Module):
    """Sparse convolution-BN-ReLU."""

    on_sparse_tensor = True

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, transposed: bool = False):
        super().__init__()
        self.net = SparseSequential(
            Conv3d(in_channels, out_channels, kernel_size, stride, transposed),
            BatchNorm1d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self.net(x)


class ResidualBlock(nn.Module):
    """Two 3³ convolutions plus the input, which goes through a 1³ convolution where channels differ."""

    on_sparse_tensor = True

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.net = SparseSequential(
            Conv3d(in_channels, out_channels, 3),
            BatchNorm1d(out_channels),
            nn.ReLU(inplace=True),
            Conv3d(out_channels, out_channels, 3),
            BatchNorm1d(out_channels),
        )
        self.downsample: SparseSequential | None = None
        if in_channels != out_channels:
            self.downsample = SparseSequential(Conv3d(in_channels, out_channels, 1), BatchNorm1d(out_channels))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: SparseTensor) -> SparseTensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return x.with_feats(self.relu(self.net(x).feats + shortcut.feats))


def stem(in_channels: int, channels: int) -> SparseSequential:
    """Two 3³ convolutions at stride 1."""
    return SparseSequential(
        Conv3d(in_channels, channels, 3),
        BatchNorm1d(channels),
        nn.ReLU(inplace=True),
        Conv3d(channels, channels, 3),
        BatchNorm1d(channels),
        nn.ReLU(inplace=True),
    )


def down_stage(in_channels: int, out_channels: int) -> SparseSequential:
    """Halves the resolution, then two residual blocks."""
    return SparseSequential(
        ConvBlock(in_channels, in_channels, 2, 2),
        ResidualBlock(in_channels, out_channels),
        ResidualBlock(out_channels, out_channels),
    )


class UpStage(nn.ModuleList):
    """Doubles the resolution, joins the skip, then two residual blocks."""

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int):
        super().__init__(
            [
                ConvBlock(in_channels, out_channels, 2, 2, transposed=True),
                SparseSequential(
                    ResidualBlock(out_channels + skip_channels, out_channels), ResidualBlock(out_channels, out_channels)
                ),
            ]
        )

    def forward(self, x: SparseTensor, skip: SparseTensor) -> SparseTensor:
        return self[1](concatenate([self[0](x), skip]))


class UpStages(nn.Module):
    """The second half of a network: four up stages, with the points beside the voxels.

    Attributes:
        vox_ups, point_transforms, dropout: of the network.
    """

    vox_ups: nn.ModuleList
    point_transforms: nn.ModuleList
    dropout: nn.Dropout

    def decode(self, z0: Tensor, points: Tensor, x: SparseTensor, skips: Sequence[SparseTensor]) -> Tensor:
        """Point features [P, C'].

        Args:
            z0, points: features of the points after the stem and after the down stages.
            x: the voxels that the latter meet, at stride 16.
            skips: at strides 1, 2, 4, 8.
        """
        z1 = points + self.point_transforms[0](z0)
        y = self._dropout(voxelize(z1, x))
        y = self.vox_ups[0](y, skips[3])  # stride 8
        y = self.vox_ups[1](y, skips[2])  # stride 4
        z2 = devoxelize(y) + self.point_transforms[1](z1)
        y = self._dropout(voxelize(z2, y))
        y = self.vox_ups[2](y, skips[1])  # stride 2
        y = self.vox_ups[3](y, skips[0])  # stride 1
        return devoxelize(y) + self.point_transforms[2](z2)

    def _dropout(self, x: SparseTensor) -> SparseTensor:
        return x.with_feats(self.dropout(x.feats))


def point_transform(in_channels: int, out_channels: int) -> nn.Sequential:
    """T: linear, BN, ReLU on point features [N, in] -> [N, out]."""
    return nn.Sequential(nn.Linear(in_channels, out_channels), BatchNorm1d(out_channels), nn.ReLU(inplace=True))
