"""The point branch by itself: SPVCNN (Tang et al., ECCV 2020), for data without cameras and as a baseline."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from core.models import point_branch as pb
from core.models.two_branch import Outputs
from core.sparse import Coordinates, SparseTensor, devoxelize, voxelize
from core.sparse.coordinates import Coarser


class SPVCNN(pb.UpStages):
    """Voxels through four down and four up stages; points beside them, which meet them at strides 1, 16, 4 and 1.

    Args:
        num_classes: classes with the ignored one.
        in_channel: features of a point (x, y, z, intensity, ...).
        cr: width factor.
        dropout: share dropped before the first and the third up stage.
    """

    def __init__(self, num_classes: int, in_channel: int = 4, cr: float = 0.64, dropout: float = 0.3):
        super().__init__()
        c = pb.scaled_widths(cr)
        self.stem = pb.stem(in_channel, c[0])
        self.vox_downs = nn.ModuleList(pb.down_stage(c[i], c[i + 1]) for i in range(4))
        skips = (c[3], c[2], c[1], c[0])
        self.vox_ups = nn.ModuleList(pb.UpStage(c[i + 4], skips[i], c[i + 5]) for i in range(4))
        self.classifier_vox = nn.Sequential(nn.Linear(c[8], num_classes))
        self.point_transforms = nn.ModuleList(
            pb.point_transform(a, b) for a, b in ((c[0], c[4]), (c[4], c[6]), (c[6], c[8]))
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, coords: Tensor, feats: Tensor, coarser: Sequence[Coarser] = (), **images: Any) -> Outputs:
        """Runs the network.

        Args:
            coords: int32 [M, 4] distinct voxels (x, y, z, batch).
            feats: float32 [M, in_channel].
            coarser: the voxel sets at strides 2, 4, 8, 16 (see `coarser_sets`); computed where they are not given.
            images: what the two-branch network takes besides; not looked at.
        """
        x0 = self.stem(SparseTensor(feats, Coordinates(coords, coarser=coarser)))
        z0 = devoxelize(x0)
        x = voxelize(z0, x0)
        skips = [x]
        for down in self.vox_downs:
            x = down(x)  # stride 2, 4, 8, 16
            skips.append(x)
        features = self.decode(z0, devoxelize(x), x, skips)
        return Outputs(self.classifier_vox(features), None, None, None, features)
