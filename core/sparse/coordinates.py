"""Voxel sets at every stride, and the maps between them.

Coordinates are int32 rows (x, y, z, batch), in units of stride-1 voxels at every stride. A set at stride s holds
multiples of s. Sets and maps are built on demand and kept, so that all layers of a network share them.
"""

from functools import cached_property

import torch
from torch import Tensor

from core.sparse.kernel_map import KernelMap
from core.sparse.rows import RowMap

# Bits of a packed key: batch 12, x 18, y 18, z 15. The offsets make negative coordinates sort in order and leave a
# margin, so that adding a neighbour's offset never carries into the next field.
_X_BITS, _Y_BITS, _Z_BITS = 18, 18, 15
COORDINATE_LIMITS = (2 ** (_X_BITS - 1) - 64, 2 ** (_Y_BITS - 1) - 64, 2 ** (_Z_BITS - 1) - 64)


def pack(coords: Tensor) -> Tensor:
    """int [N, 4] (x, y, z, batch) -> int64 [N] keys that sort by (batch, x, y, z).

    |x|, |y| must be below 131 008 and |z| below 16 320 voxels, batch below 4 096 (voxelisation checks this).
    """
    x, y, z, batch = coords.long().unbind(1)
    key = (batch << _X_BITS) + (x + 2 ** (_X_BITS - 1))
    key = (key << _Y_BITS) + (y + 2 ** (_Y_BITS - 1))
    return (key << _Z_BITS) + (z + 2 ** (_Z_BITS - 1))


def _pack_offsets(offsets: Tensor) -> Tensor:
    """int [K, 3] -> int64 [K]: what to add to a key to move it by the offset."""
    x, y, z = offsets.long().unbind(1)
    return (((x << _Y_BITS) + y) << _Z_BITS) + z


def kernel_offsets(kernel_size: int, stride: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """int64 [K, 3] offset of each kernel slice, times `stride`.

    Odd kernels are centred with x running fastest; even ones start at 0 (size 2) with z running fastest: the order of
    torchsparse v1.4.0, so that its checkpoints load.
    """
    span = torch.arange(kernel_size, device=device) - (kernel_size - 1) // 2
    first, second, third = (grid.reshape(-1) for grid in torch.meshgrid(span, span, span, indexing="ij"))
    columns = (third, second, first) if kernel_size % 2 else (first, second, third)
    return torch.stack(columns, 1) * stride


class VoxelSet:
    """Distinct voxels of one stride, with look-up by coordinates.

    Attributes:
        coords: int32 [N, 4] (x, y, z, batch).
        stride: edge of a voxel in stride-1 voxels.
    """

    def __init__(self, coords: Tensor, stride: int, keys: Tensor | None = None):
        self.coords, self.stride = coords, stride
        self.keys = pack(coords) if keys is None else keys

    def __len__(self) -> int:
        return self.coords.shape[0]

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        return torch.sort(self.keys)

    @property
    def order(self) -> Tensor:
        """int64 [N], the rows in the order of their keys."""
        return self._sorted[1]

    def find(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Looks keys up -> (row int64, 0 where absent; found bool), both shaped like `keys`."""
        sorted_keys, order = self._sorted
        if len(self) == 0:
            return torch.zeros_like(keys), torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(sorted_keys, keys).clamp_(max=len(self) - 1)
        found = sorted_keys[place] == keys
        return torch.where(found, order[place], 0), found

    def find_sorted(self, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Looks up all voxels, in the order of their keys, moved by each of int64 [K] `moves` -> as `find`, [K, N].

        Neighbouring look-ups end near each other in memory, which is faster than any other order.
        """
        return self.find(self._sorted[0][None] + moves[:, None])


class Coordinates:
    """All voxel sets of a batch and the maps between them; sparse tensors of one batch share it.

    Args:
        coords: int32 [N, 4] distinct voxels (x, y, z, batch) at stride 1.
        points: [P, 4] points (x, y, z, batch) in units of stride-1 voxels, not necessarily on voxel corners; the
            voxels themselves where absent.
    """

    def __init__(self, coords: Tensor, points: Tensor | None = None):
        self._sets = {1: VoxelSet(coords, 1)}
        self._kernel_maps: dict[tuple[int, int, int], KernelMap] = {}
        self._to_voxels: dict[int, RowMap] = {}
        self._to_points: dict[int, RowMap] = {}
        self._parents: dict[int, Tensor] = {}
        self.points = coords if points is None else points

    def at(self, stride: int) -> VoxelSet:
        """The voxel set of a stride: floor(coordinate / stride) * stride of the next finer set, sorted by
        (batch, x, y, z)."""
        if stride not in self._sets:
            finer = self.at(stride // 2)
            down = _floor_to(finer.coords, stride)
            keys, parent = torch.unique(pack(down), return_inverse=True)
            self._parents[stride] = parent
            self._sets[stride] = VoxelSet(_unpack(keys), stride, keys)
        return self._sets[stride]

    def kernel_map(self, kernel_size: int, stride: int, tensor_stride: int) -> KernelMap:
        """The pairs of a convolution with `kernel_size` and `stride` (3 and 1, or 2 and 2) on the set of
        `tensor_stride`."""
        key = (kernel_size, stride, tensor_stride)
        if key not in self._kernel_maps:
            if (kernel_size, stride) == (2, 2):
                self._kernel_maps[key] = self._downsampling_map(tensor_stride)
            elif kernel_size % 2 and stride == 1:
                self._kernel_maps[key] = self._neighbour_map(kernel_size, tensor_stride)
            else:
                raise ValueError(f"no kernel map for kernel_size={kernel_size}, stride={stride}")
        return self._kernel_maps[key]

    def _neighbour_map(self, kernel_size: int, tensor_stride: int) -> KernelMap:
        voxels = self.at(tensor_stride)
        offsets = kernel_offsets(kernel_size, tensor_stride, voxels.coords.device)
        centre = len(offsets) // 2
        rows, found = voxels.find_sorted(_pack_offsets(offsets[:centre]))  # the other half mirrors them
        table = rows.new_full((len(offsets), len(voxels)), -1)
        kernel_slice, place = found.nonzero(as_tuple=True)
        out_rows, in_rows = voxels.order[place], rows[kernel_slice, place]
        table[kernel_slice, out_rows] = in_rows
        table[len(offsets) - 1 - kernel_slice, in_rows] = out_rows
        kernel_slice, out_rows = (table >= 0).nonzero(as_tuple=True)
        sizes = torch.bincount(kernel_slice, minlength=len(offsets)).tolist()
        return KernelMap(table[kernel_slice, out_rows], out_rows, sizes, len(voxels), len(voxels), centre)

    def _downsampling_map(self, tensor_stride: int) -> KernelMap:
        fine, coarse = self.at(tensor_stride), self.at(tensor_stride * 2)
        parent = self._parents[tensor_stride * 2]
        x, y, z = ((fine.coords - coarse.coords[parent])[:, :3] // tensor_stride).long().unbind(1)
        kernel_slice = (x * 2 + y) * 2 + z
        in_rows = torch.argsort(kernel_slice * max(len(coarse), 1) + parent, stable=True)
        sizes = torch.bincount(kernel_slice, minlength=8).tolist()
        return KernelMap(in_rows, parent[in_rows], sizes, len(fine), len(coarse))

    def points_to_voxels(self, stride: int) -> RowMap:
        """P→V: the mean of the points in each voxel of `stride`; an empty voxel gets 0."""
        if stride not in self._to_voxels:
            voxels = self.at(stride)
            rows, found = voxels.find(pack(_floor_to(self.points, stride)))
            inside = found.nonzero().squeeze(1)
            rows = rows[inside]
            counts = torch.bincount(rows, minlength=len(voxels))
            weights = 1.0 / counts[rows].float()
            self._to_voxels[stride] = RowMap.from_pairs(inside, rows, weights, len(self.points), len(voxels))
        return self._to_voxels[stride]

    def voxels_to_points(self, stride: int) -> RowMap:
        """V→P: trilinear interpolation of the voxels of `stride` at the points.

        Corner weights are products of (1 - t) and t, t = (p - floor(p / s) s) / s; absent corners weigh 0, the rest is
        divided by its sum + 1e-8.
        """
        if stride not in self._to_points:
            rows, weights = interpolation_table(self.at(stride), self.points)
            self._to_points[stride] = RowMap.from_table(rows, weights, len(self.at(stride)))
        return self._to_points[stride]


def interpolation_table(voxels: VoxelSet, points: Tensor) -> tuple[Tensor, Tensor]:
    """Corner rows and weights of trilinear interpolation at points [P, 4].

    Returns (rows int64 [P, 8], 0 where the corner is absent; weights float32 [P, 8], 0 where absent). Column j is the
    corner at `kernel_offsets(2)[j]`.
    """
    corner = _floor_to(points, voxels.stride)
    fraction = (points[:, :3].float() - corner[:, :3].float()) / voxels.stride
    offsets = kernel_offsets(2, voxels.stride, points.device)
    upper = offsets.bool()[None]  # [1, 8, 3]
    weights = torch.where(upper, fraction[:, None], 1 - fraction[:, None]).prod(2)
    rows, found = voxels.find(pack(corner)[:, None] + _pack_offsets(offsets)[None])
    weights = weights * found
    return rows, weights / (weights.sum(1, keepdim=True) + 1e-8)


def _floor_to(coords: Tensor, stride: int) -> Tensor:
    """Rounds x, y, z down to multiples of `stride`; the batch column stays. Returns int32."""
    if coords.is_floating_point():
        down = (torch.floor(coords[:, :3] / stride) * stride).int()
    else:
        down = torch.div(coords[:, :3], stride, rounding_mode="floor") * stride
    return torch.cat([down, coords[:, 3:].to(down.dtype)], 1)


def _unpack(keys: Tensor) -> Tensor:
    """The inverse of `pack` -> int32 [N, 4]."""
    z = (keys & (2**_Z_BITS - 1)) - 2 ** (_Z_BITS - 1)
    y = ((keys >> _Z_BITS) & (2**_Y_BITS - 1)) - 2 ** (_Y_BITS - 1)
    x = ((keys >> (_Z_BITS + _Y_BITS)) & (2**_X_BITS - 1)) - 2 ** (_X_BITS - 1)
    return torch.stack([x, y, z, keys >> (_Z_BITS + _Y_BITS + _X_BITS)], 1).int()
