"""Voxel sets at every stride, and the maps between them.

Coordinates are int32 rows (x, y, z, batch), in units of stride-1 voxels at every stride. A set at stride s holds
multiples of s. Sets and maps are built on demand and kept, so that all layers of a network share them.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from core.sparse.kernel_map import KernelMap
from core.sparse.rows import RowMap
from core.voxel_limits import X_BITS, Y_BITS, Z_BITS


def pack(coords: Tensor) -> Tensor:
    """int [N, 4] (x, y, z, batch) -> int64 [N] keys that sort by (batch, x, y, z).

    |x|, |y| must be below 131 008 and |z| below 16 320 voxels, batch below 4 096 (voxelisation checks this).
    """
    return (coords * _factors(coords.device)).sum(1)


@lru_cache
def _factors(device: torch.device) -> Tensor:
    """int64 [4], what x, y, z, batch count in a key. Kept: see `_moves`."""
    return torch.tensor([2 ** (Y_BITS + Z_BITS), 2**Z_BITS, 1, 2 ** (X_BITS + Y_BITS + Z_BITS)], device=device)


def _pack_offsets(offsets: Tensor) -> Tensor:
    """int [K, 3] -> int64 [K]: what to add to a key to move it by the offset."""
    x, y, z = offsets.long().unbind(1)
    return (((x << Y_BITS) + y) << Z_BITS) + z


@lru_cache
def _moves(kernel_size: int, stride: int, device: torch.device) -> Tensor:
    """int64 [K] on the device: what to add to a key to move it by each kernel offset. Kept, since copying it to a GPU
    makes the host wait."""
    return _pack_offsets(kernel_offsets(kernel_size, stride)).to(device)


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

    Args:
        coords: int32 [N, 4] (x, y, z, batch).
        stride: edge of a voxel in stride-1 voxels.
        in_order: the rows are in the order of their keys.
    """

    def __init__(self, coords: Tensor, stride: int, in_order: bool = False):
        self.coords, self.stride = coords, stride
        self._in_order = in_order

    def __len__(self) -> int:
        return self.coords.shape[0]

    @cached_property
    def keys(self) -> Tensor:
        """int64 [N], as `pack` makes them."""
        return pack(self.coords)

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor | None]:
        return (self.keys, None) if self._in_order else torch.sort(self.keys)

    def find(self, keys: Tensor, absent: int = 0) -> tuple[Tensor, Tensor]:
        """Looks keys up -> (row int64, `absent` where there is none; found bool), both shaped like `keys`."""
        sorted_keys, order = self._sorted
        if len(self) == 0:
            return torch.full_like(keys, absent), torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(sorted_keys, keys).clamp_(max=len(self) - 1)
        found = sorted_keys[place] == keys
        return torch.where(found, place if order is None else order[place], absent), found


STRIDES = (2, 4, 8, 16)
"""Of the network's coarser sets."""

Coarser = tuple[Tensor, Tensor]
"""The set of twice the stride: int32 [N, 4] voxels in the order of their keys; int32 [M], for each of the M voxels of
the finer set the row of the voxel that it lies in, times 8, plus its place there (`kernel_offsets(2)`)."""


def coarser_set(coords: Tensor, stride: int) -> Coarser:
    """The set at `stride` of the voxels [M, 4] at stride / 2: floor(coordinate / stride) * stride, each once.

    The host waits for their number, so the loader's processes do it (`core/loader/collate.py`).
    """
    keys, parent = torch.unique(pack(_floor_to(coords, stride)), return_inverse=True)
    x, y, z = (torch.div(coords[:, :3], stride // 2, rounding_mode="floor") & 1).unbind(1)
    return _unpack(keys), (parent * 8 + (x * 4 + y * 2 + z)).int()


def coarser_sets(coords: Tensor, strides: Sequence[int] = STRIDES) -> list[Coarser]:
    """The sets of the network's strides, each from the one before."""
    sets: list[Coarser] = []
    for stride in strides:
        sets.append(coarser_set(sets[-1][0] if sets else coords, stride))
    return sets


class Coordinates:
    """All voxel sets of a batch and the maps between them; sparse tensors of one batch share it.

    Args:
        coords: int32 [N, 4] distinct voxels (x, y, z, batch) at stride 1.
        points: [P, 4] points (x, y, z, batch) in units of stride-1 voxels, not necessarily on voxel corners; the
            voxels themselves where absent.
        coarser: the sets at strides 2, 4, ... where they are known; others are built on demand.
    """

    def __init__(self, coords: Tensor, points: Tensor | None = None, coarser: Sequence[Coarser] = ()):
        self._sets = {1: VoxelSet(coords, 1)}
        self._places: dict[int, Tensor] = {}
        for level, (voxels, places) in enumerate(coarser, start=1):
            self._add(2**level, voxels, places)
        self._kernel_maps: dict[tuple[int, int, int], KernelMap] = {}
        self._rows: dict[int, Tensor] = {}
        self._to_voxels: dict[int, RowMap] = {}
        self._to_points: dict[int, RowMap] = {}
        self.points_are_voxels = points is None
        self.points = coords if points is None else points

    def _add(self, stride: int, coords: Tensor, places: Tensor) -> None:
        self._sets[stride], self._places[stride] = VoxelSet(coords, stride, in_order=True), places

    def at(self, stride: int) -> VoxelSet:
        """The voxel set of a stride: floor(coordinate / stride) * stride of the next finer set, sorted by
        (batch, x, y, z)."""
        if stride not in self._sets:
            self._add(stride, *coarser_set(self.at(stride // 2).coords, stride))
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
        count, moves = len(voxels), _moves(kernel_size, tensor_stride, voxels.coords.device)
        rows, _ = voxels.find(voxels.keys[:, None] + moves, absent=count)
        return KernelMap(count, count, len(moves), rows.int(), identity=len(moves) // 2)

    def _downsampling_map(self, tensor_stride: int) -> KernelMap:
        fine, coarse = self.at(tensor_stride), self.at(tensor_stride * 2)
        back_single = self._places[tensor_stride * 2]
        inputs = back_single.new_full((8 * len(coarse),), len(fine))
        children = torch.arange(len(fine), dtype=torch.int32, device=inputs.device)
        inputs.index_copy_(0, back_single.long(), children)
        return KernelMap(len(fine), len(coarse), 8, inputs.view(-1, 8), back_single=back_single)

    def _voxel_of_points(self, stride: int) -> tuple[Tensor, Tensor | None]:
        """Row int32 [P] of the voxel that holds each point, and whether there is one; None: there always is."""
        if not self.points_are_voxels:
            rows, found = self.at(stride).find(pack(_floor_to(self.points, stride)))
            return rows.int(), found
        if stride not in self._rows:
            self.at(stride)
            parent = self._places[stride] >> 3
            self._rows[stride] = parent if stride == 2 else parent[self._voxel_of_points(stride // 2)[0]]
        return self._rows[stride], None

    def points_to_voxels(self, stride: int) -> RowMap:
        """P→V: the mean of the points in each voxel of `stride`; an empty voxel gets 0."""
        if stride not in self._to_voxels:
            voxels, count = self.at(stride), len(self.points)
            rows, found = self._voxel_of_points(stride)
            points = None
            if found is not None:  # a point outside of all voxels counts nowhere
                points, rows = found.nonzero().squeeze(1), rows[found]
            sums = RowMap.from_pairs(points, rows, None, count, len(voxels))
            sizes = sums.offsets[1:] - sums.offsets[:-1]
            share = 1.0 / sizes.float()
            weights = torch.repeat_interleave(share, sizes, output_size=len(rows))
            back = None
            if self.points_are_voxels:
                back = RowMap.from_table(rows[:, None], share[rows][:, None], len(voxels))
            self._to_voxels[stride] = RowMap(sums.indices, sums.offsets, weights, count, back)
        return self._to_voxels[stride]

    def voxels_to_points(self, stride: int) -> RowMap:
        """V→P: trilinear interpolation of the voxels of `stride` at the points.

        Corner weights are products of (1 - t) and t, t = (p - floor(p / s) s) / s; absent corners weigh 0, the rest is
        divided by its sum + 1e-8.
        """
        if stride not in self._to_points:
            rows, weights = interpolation_table(self.at(stride), self.points, *self._voxel_of_points(stride))
            self._to_points[stride] = RowMap.from_table(rows, weights, len(self.at(stride)))
        return self._to_points[stride]


def interpolation_table(
    voxels: VoxelSet, points: Tensor, own: Tensor, found: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Corner rows and weights of trilinear interpolation at points [P, 4].

    Args:
        own, found: int32 [P], the voxel that holds each point; bool [P], whether there is one, None: there always is.
    Returns (rows int64 [P, 8], an absent corner's is `own`; weights float32 [P, 8], 0 where absent). Column j is the
    corner at `kernel_offsets(2)[j]`.
    """
    if found is None:
        corner, keys = voxels.coords[own], voxels.keys[own]
    else:
        corner = _floor_to(points, voxels.stride)
        keys = pack(corner)
    fraction = ((points[:, :3] - corner[:, :3]) / voxels.stride)[:, :, None]
    x, y, z = torch.cat([1 - fraction, fraction], 2).unbind(1)  # [P, 2] each: weights of the lower and the upper side
    weights = (x[:, :, None, None] * y[:, None, :, None] * z[:, None, None, :]).flatten(1)  # z runs fastest
    rows, there = voxels.find(keys[:, None] + _moves(2, voxels.stride, corner.device))
    weights = weights * there
    return torch.where(there, rows, own[:, None]), weights / (weights.sum(1, keepdim=True) + 1e-8)


def _floor_to(coords: Tensor, stride: int) -> Tensor:
    """Rounds x, y, z down to multiples of `stride`; the batch column stays. Returns int32."""
    if coords.is_floating_point():
        down = (torch.floor(coords[:, :3] / stride) * stride).int()
    else:
        down = torch.div(coords[:, :3], stride, rounding_mode="floor") * stride
    return torch.cat([down, coords[:, 3:].to(down.dtype)], 1)


def _unpack(keys: Tensor) -> Tensor:
    """The inverse of `pack` -> int32 [N, 4]."""
    keys = keys + (2 ** (X_BITS + Y_BITS + Z_BITS - 1) + 2 ** (Y_BITS + Z_BITS - 1) + 2 ** (Z_BITS - 1))  # none below 0
    z = (keys & (2**Z_BITS - 1)) - 2 ** (Z_BITS - 1)
    y = ((keys >> Z_BITS) & (2**Y_BITS - 1)) - 2 ** (Y_BITS - 1)
    x = ((keys >> (Z_BITS + Y_BITS)) & (2**X_BITS - 1)) - 2 ** (X_BITS - 1)
    return torch.stack([x, y, z, keys >> (Z_BITS + Y_BITS + X_BITS)], 1).int()
