"""Features on a voxel set."""

from dataclasses import dataclass

from torch import Tensor

from core.sparse.coordinates import Coordinates


@dataclass(frozen=True)
class SparseTensor:
    """Features of the voxels of one stride.

    Attributes:
        feats: [N, C], one row for each row of `coords`.
        coordinates: the batch's voxel sets, shared by all tensors of the batch.
        stride: which of its sets the rows belong to.
    """

    feats: Tensor
    coordinates: Coordinates
    stride: int = 1

    @property
    def coords(self) -> Tensor:
        """int32 [N, 4] (x, y, z, batch) in units of stride-1 voxels."""
        return self.coordinates.at(self.stride).coords

    def with_feats(self, feats: Tensor) -> "SparseTensor":
        """The same voxels with other features."""
        return SparseTensor(feats, self.coordinates, self.stride)
