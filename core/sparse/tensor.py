"""Features on a voxel set."""

from dataclasses import dataclass

from torch import Tensor

from core.sparse.coordinates import Coordinates


@dataclass(frozen=True)
class SparseTensor:
    """Features of the voxels of one stride.

    Attributes:
        feats: [N, C], one row for each voxel.
        coordinates: the batch's voxel sets, shared by all tensors of the batch.
        stride: which of its sets the rows belong to.
    """

    feats: Tensor
    coordinates: Coordinates
    stride: int = 1

    def with_feats(self, feats: Tensor) -> "SparseTensor":
        """The same voxels with other features."""
        return SparseTensor(feats, self.coordinates, self.stride)
