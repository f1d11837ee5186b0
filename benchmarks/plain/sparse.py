"""Sparse convolution as torchsparse 1.4 orders the work: rule books by hashing, gather-multiply-scatter per offset."""

import torch
from torch import Tensor

from core.sparse import Conv3d, SparseTensor
from core.sparse.coordinates import kernel_offsets

_FNV_OFFSET, _FNV_PRIME = -3750763034362895579, 1099511628211  # 64-bit FNV-1a; the offset as a signed number


def hash_rows(coords: Tensor) -> Tensor:
    """int [..., 4] -> int64 [...], FNV-1a over the four numbers."""
    key = torch.full(coords.shape[:-1], _FNV_OFFSET, dtype=torch.int64, device=coords.device)
    for axis in range(4):
        key = (key ^ coords[..., axis].long()) * _FNV_PRIME
    return key


class PlainRows:
    """Weighted sums of rows, by scattering: out[out_rows] += weights * features[in_rows]."""

    def __init__(self, in_rows: Tensor, out_rows: Tensor, weights: Tensor, num_in: int, num_out: int):
        self.in_rows, self.out_rows, self.weights, self.num_in, self.num_out = (
            in_rows,
            out_rows,
            weights,
            num_in,
            num_out,
        )

    def apply(self, features: Tensor) -> Tensor:
        """[num_in, C] -> [num_out, C]."""
        out = features.new_zeros(self.num_out, features.shape[1])
        weighted = features[self.in_rows] * self.weights[:, None].to(features.dtype)
        return out.index_add_(0, self.out_rows, weighted)

    def transposed(self) -> "PlainRows":
        return PlainRows(self.out_rows, self.in_rows, self.weights, self.num_out, self.num_in)


class PlainCoordinates:
    """Takes the place of `core.sparse.Coordinates`: voxel sets, rule books and interpolation tables, each made once."""

    points_are_voxels = False  # the published code interpolates at stride 1, too

    def __init__(self, coords: Tensor):
        self.points = coords
        self._coords = {1: coords}
        self._hashes: dict[int, tuple[Tensor, Tensor]] = {}
        self._rule_books: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        self._rows: dict[tuple[str, int], PlainRows] = {}

    def coords(self, stride: int) -> Tensor:
        """int32 [N, 4] of the voxels of a stride."""
        if stride not in self._coords:
            self._coords[stride] = torch.unique(_floor(self.coords(stride // 2), stride), dim=0)
        return self._coords[stride]

    def _find(self, stride: int, coords: Tensor) -> Tensor:
        """Row of each voxel, -1 where absent."""
        if stride not in self._hashes:
            self._hashes[stride] = torch.sort(hash_rows(self.coords(stride)))
        keys, order = self._hashes[stride]
        query = hash_rows(coords)
        place = torch.searchsorted(keys, query).clamp_(max=len(keys) - 1)
        return torch.where(keys[place] == query, order[place], -1)

    def rule_book(self, kernel_size: int, stride: int) -> list[tuple[Tensor, Tensor]]:
        """(input rows, output rows) of each kernel slice, for the convolution on the set of `stride`."""
        key = (kernel_size, stride)
        if key not in self._rule_books:
            out = self.coords(stride if kernel_size % 2 else 2 * stride)
            book = []
            for offset in kernel_offsets(kernel_size, stride, out.device):
                moved = out.clone()
                moved[:, :3] += offset.to(out.dtype)
                rows = self._find(stride, moved)
                found = (rows >= 0).nonzero().squeeze(1)
                book.append((rows[found], found))
            self._rule_books[key] = book
        return self._rule_books[key]

    def points_to_voxels(self, stride: int) -> PlainRows:
        """The mean of the points in each voxel."""
        key = ("to voxels", stride)
        if key not in self._rows:
            voxel = self._find(stride, _floor(self.points, stride))
            weights = 1 / torch.bincount(voxel, minlength=len(self.coords(stride)))[voxel].float()
            rows = torch.arange(len(voxel), device=voxel.device)
            self._rows[key] = PlainRows(rows, voxel, weights, len(voxel), len(self.coords(stride)))
        return self._rows[key]

    def voxels_to_points(self, stride: int) -> PlainRows:
        """Trilinear interpolation from the eight corners; absent ones weigh 0."""
        key = ("to points", stride)
        if key not in self._rows:
            corner = _floor(self.points, stride)
            fraction = (self.points - corner)[:, None, :3] / stride
            offsets = kernel_offsets(2, stride, corner.device)
            weights = torch.where(offsets.bool()[None], fraction, 1 - fraction).prod(2)  # [P, 8]
            corners = corner[:, None].repeat(1, 8, 1)
            corners[..., :3] += offsets.to(corner.dtype)
            rows = self._find(stride, corners)
            weights = weights * (rows >= 0)
            weights = weights / (weights.sum(1, keepdim=True) + 1e-8)
            points = torch.arange(len(corner), device=corner.device).repeat_interleave(8)
            arguments = (rows.clamp(min=0).flatten(), points, weights.flatten())
            self._rows[key] = PlainRows(*arguments, len(self.coords(stride)), len(corner))
        return self._rows[key]


def _floor(coords: Tensor, stride: int) -> Tensor:
    down = torch.div(coords[:, :3], stride, rounding_mode="floor") * stride
    return torch.cat([down, coords[:, 3:]], 1)


class PlainConv3d(Conv3d):
    """`Conv3d` by gather, multiplication and `index_add_`, one kernel slice after the other."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        if self.kernel_size == 1:
            return super().forward(x)
        coordinates = x.coordinates
        assert isinstance(coordinates, PlainCoordinates)
        stride = x.stride // 2 if self.transposed else x.stride
        book = coordinates.rule_book(self.kernel_size, stride)
        out_stride = stride if self.transposed else stride * self.stride
        if self.transposed:
            book = [(out_rows, in_rows) for in_rows, out_rows in book]
        feats = plain_convolution(x.feats, self.kernel, book, len(coordinates.coords(out_stride)))
        return SparseTensor(feats, x.coordinates, out_stride)


class _PlainConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, feats, kernel, book, num_out):
        ctx.save_for_backward(feats, kernel)
        ctx.book = book
        out = feats.new_zeros(num_out, kernel.shape[2])
        for k, (in_rows, out_rows) in enumerate(book):
            if len(in_rows):
                out.index_add_(0, out_rows, feats[in_rows] @ kernel[k])
        return out

    @staticmethod
    def backward(ctx, grad):
        feats, kernel = ctx.saved_tensors
        grad_feats, grad_kernel = torch.zeros_like(feats), torch.zeros_like(kernel)
        for k, (in_rows, out_rows) in enumerate(ctx.book):
            if len(in_rows):
                gathered = grad[out_rows]
                grad_feats.index_add_(0, in_rows, gathered @ kernel[k].t())
                grad_kernel[k] = feats[in_rows].t() @ gathered
        return grad_feats, grad_kernel, None, None


def plain_convolution(feats: Tensor, kernel: Tensor, book: list[tuple[Tensor, Tensor]], num_out: int) -> Tensor:
    """[num_in, Cin], [K, Cin, Cout] -> [num_out, Cout], by a rule book of (input rows, output rows) per slice."""
    if torch.is_autocast_enabled(feats.device.type):
        dtype = torch.get_autocast_dtype(feats.device.type)
        feats, kernel = feats.to(dtype), kernel.to(dtype)
    return _PlainConvolution.apply(feats, kernel, book, num_out)
