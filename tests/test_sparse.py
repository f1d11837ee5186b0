"""The sparse engine against golden numbers and against dense convolution."""

import contextlib
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from core.sparse import Conv3d, Coordinates, SparseTensor, devoxelize, mix_rows, native, voxelize
from core.sparse.coordinates import VoxelSet, coarser_sets, interpolation_table, kernel_offsets
from core.sparse.rows import RowMap, as_on_gpu
from tests.helpers import DEVICES, HERE, golden

GOLDEN = golden("sparse_ops.npz")


def tensor(name: str, device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(GOLDEN[name]).to(device)


def run_conv(name: str, x: SparseTensor, kernel_size: int, stride: int, transposed: bool = False):
    """Runs golden convolution `name` on `x`, checks output and gradients, returns the output without graph."""
    weight = tensor(f"{name}_weight", x.feats.device.type)
    conv = Conv3d(weight.shape[-2], weight.shape[-1], kernel_size, stride, transposed).to(x.feats.device)
    conv.kernel.data = weight
    feats = x.feats.detach().requires_grad_()
    out = conv(x.with_feats(feats))
    out.feats.backward(tensor(f"{name}_grad_out", x.feats.device.type))
    for ours, key in [(out.feats, "out_feats"), (feats.grad, "grad_in"), (conv.kernel.grad, "grad_weight")]:
        theirs = tensor(f"{name}_{key}")
        torch.testing.assert_close(ours.detach().cpu(), theirs, rtol=1e-4, atol=1e-4, msg=f"{name} {key}")
    assert torch.equal(out.coordinates.at(out.stride).coords.cpu(), tensor(f"{name}_out_coords")), name
    return out.with_feats(out.feats.detach())


@pytest.mark.parametrize("device", DEVICES)
def test_convolutions_agree_with_golden(device):
    x = SparseTensor(tensor("A_feats", device), Coordinates(tensor("A_coords", device)))
    x = run_conv("conv_k3s1", x, 3, 1)
    x = run_conv("conv_k2s2", x, 2, 2)
    x = run_conv("conv_k3s1_at2", x, 3, 1)
    x = run_conv("conv_k2s2_at2", x, 2, 2)
    x = run_conv("conv_k3s1_at4", x, 3, 1)
    x = run_conv("deconv_k2s2_4to2", x, 2, 2, transposed=True)
    x = run_conv("deconv_k2s2_2to1", x, 2, 2, transposed=True)
    run_conv("conv_k1", x, 1, 1)


def test_negative_coordinates_are_floored():
    x = SparseTensor(tensor("B_feats"), Coordinates(tensor("B_coords")))
    run_conv("B_conv_k2s2", x, 2, 2)
    for stride in (2, 4, 8, 16):
        assert torch.equal(x.coordinates.at(stride).coords, tensor(f"B_down{stride}"))


@pytest.mark.parametrize("name, kernel_size, stride", [("conv_k3s1", 3, 1), ("conv_k2s2", 2, 2)])
def test_kernel_maps_agree_with_golden(name, kernel_size, stride):
    pairs, sizes = Coordinates(tensor("A_coords")).kernel_map(kernel_size, stride, 1).full_table
    assert torch.equal(pairs, tensor(f"{name}_kmap"))
    assert sizes == GOLDEN[f"{name}_kmap_sizes"].tolist()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_kernel_offsets_agree_with_golden(size):
    assert np.array_equal(kernel_offsets(size).numpy(), GOLDEN[f"offsets_k{size}"])
    if size in (2, 3):
        assert np.array_equal(kernel_offsets(size, 8).numpy(), GOLDEN[f"offsets_k{size}_stride8"])


def golden_coordinates(device: str) -> Coordinates:
    """The golden voxel sets as they are stored (their rows at stride 1 are in the order of a hash)."""
    return Coordinates(tensor("vox_coords_s1", device), points=tensor("P_coords", device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_point_to_voxel_agrees_with_golden(stride, device):
    coordinates = golden_coordinates(device)
    assert torch.equal(coordinates.at(stride).coords.cpu(), tensor(f"vox_coords_s{stride}"))
    feats = tensor("P_feats", device).requires_grad_()
    like = SparseTensor(tensor(f"vox_feats_s{stride}", device), coordinates, stride)
    out = voxelize(feats, like).feats
    out.backward(tensor(f"point_to_voxel_grad_out_s{stride}", device))
    torch.testing.assert_close(out.detach().cpu(), tensor(f"point_to_voxel_feats_s{stride}"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(feats.grad.cpu(), tensor(f"point_to_voxel_grad_in_s{stride}"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("probe", ["P", "Q"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_voxel_to_point_agrees_with_golden(stride, probe):
    voxels = VoxelSet(tensor(f"vox_coords_s{stride}"), stride)
    points = tensor(f"{probe}_coords")
    own = torch.zeros(len(points), dtype=torch.int32)
    rows, weights = interpolation_table(voxels, points, own, found=own.bool())
    present = tensor(f"voxel_to_point_{probe}_index_s{stride}") >= 0
    torch.testing.assert_close(weights, tensor(f"voxel_to_point_{probe}_weights_s{stride}"), rtol=1e-5, atol=1e-6)
    index = tensor(f"voxel_to_point_{probe}_index_s{stride}").long()
    assert torch.equal(rows[weights > 0], index[weights > 0]) and bool(present[weights > 0].all())
    feats = tensor(f"vox_feats_s{stride}").requires_grad_()
    out = mix_rows(feats, RowMap.from_table(rows, weights, len(voxels)))
    out.backward(tensor(f"voxel_to_point_{probe}_grad_out_s{stride}"))
    torch.testing.assert_close(out.detach(), tensor(f"voxel_to_point_{probe}_feats_s{stride}"), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(feats.grad, tensor(f"voxel_to_point_{probe}_grad_in_s{stride}"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kernel_size, stride, transposed", [(1, 1, False), (3, 1, False), (2, 2, False), (2, 2, True)])
def test_agrees_with_dense_convolution(kernel_size, stride, transposed, device):
    """A full grid and its sparse half against nn.Conv3d, gradients included; two samples do not see each other."""
    torch.manual_seed(0)
    size, batch, c_in, c_out = 6, 2, 5, 4
    dense = torch.rand(batch, c_in, size, size, size) * (torch.rand(batch, 1, size, size, size) < 0.5)
    b, x, y, z = dense.abs().sum(1).nonzero(as_tuple=True)
    coordinates = Coordinates(torch.stack([x, y, z, b], 1).int().to(device))
    conv = Conv3d(c_in, c_out, kernel_size, stride, transposed).to(device)
    reference = dense_like(conv, c_in, c_out)
    if transposed:
        fine = coordinates.at(1).coords
        x_, y_, z_, b_ = coordinates.at(2).coords.cpu().long().unbind(1)
        dense = torch.zeros(batch, c_in, size // 2, size // 2, size // 2)
        dense[b_, :, x_ // 2, y_ // 2, z_ // 2] = torch.rand(len(x_), c_in)
        feats = dense[b_, :, x_ // 2, y_ // 2, z_ // 2].to(device).requires_grad_()
        out = conv(SparseTensor(feats, coordinates, 2))
        rows = fine.cpu().long()
    else:
        feats = dense[b, :, x, y, z].to(device).requires_grad_()
        out = conv(SparseTensor(feats, coordinates))
        rows = out.coordinates.at(out.stride).coords.cpu().long()
    dense.requires_grad_()
    x_out, y_out, z_out = (rows[:, axis] // out.stride for axis in range(3))
    expected = reference(dense)[rows[:, 3], :, x_out, y_out, z_out]
    weight = torch.rand_like(expected)
    (expected * weight).sum().backward()
    (out.feats * weight.to(device)).sum().backward()
    torch.testing.assert_close(out.feats.detach().cpu(), expected.detach(), rtol=1e-4, atol=1e-5)
    place = (b_, slice(None), x_ // 2, y_ // 2, z_ // 2) if transposed else (b, slice(None), x, y, z)
    torch.testing.assert_close(feats.grad.cpu(), dense.grad[place], rtol=1e-4, atol=1e-5)
    ours = conv.kernel.grad.reshape(-1, c_in, c_out).cpu()
    torch.testing.assert_close(ours, kernel_of(reference, reference.weight.grad), rtol=1e-4, atol=1e-4)


def dense_like(conv: Conv3d, c_in: int, c_out: int) -> nn.Module:
    """The dense layer with the same weights."""
    size, stride = conv.kernel_size, conv.stride
    kind = nn.ConvTranspose3d if conv.transposed else nn.Conv3d
    layer = kind(c_in, c_out, size, stride, padding=(size - 1) // 2, bias=False)
    offsets = kernel_offsets(size) + (size - 1) // 2
    kernel = conv.kernel.detach().cpu().reshape(-1, c_in, c_out)
    with torch.no_grad():
        for (i, j, k), w in zip(offsets.tolist(), kernel, strict=True):
            layer.weight[:, :, i, j, k] = w if conv.transposed else w.t()
    return layer


def kernel_of(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Dense weights (or their gradient) in the order of sparse kernels [K, Cin, Cout]."""
    size = weight.shape[-1]
    offsets = kernel_offsets(size) + (size - 1) // 2
    slices = [weight[:, :, i, j, k] for i, j, k in offsets.tolist()]
    return torch.stack([s if isinstance(layer, nn.ConvTranspose3d) else s.t() for s in slices])


def test_row_map_transposes_back():
    rng = torch.Generator().manual_seed(0)
    rows, weights = torch.randint(7, (20, 3), generator=rng), torch.rand(20, 3, generator=rng)
    row_map = RowMap.from_table(rows, weights, 7)
    dense = torch.zeros(20, 7).scatter_add_(1, rows, weights)
    torch.testing.assert_close(row_map.apply(torch.eye(7)), dense)
    torch.testing.assert_close(row_map.transposed().apply(torch.eye(20)), dense.t())


def test_torchsparse_engine_agrees_forward():
    """The forward kernels of torchsparse's CPU build take our maps (its CPU build has no backward)."""
    pytest.importorskip("torchsparse.backend", reason="torchsparse v1.4.0 is not installed")
    from core.sparse import native, torchsparse_engine

    x = SparseTensor(tensor("A_feats"), Coordinates(tensor("A_coords")))
    kernel, kernel_map = tensor("conv_k3s1_weight"), x.coordinates.kernel_map(3, 1, 1)
    ours, theirs = (engine.convolve(x.feats, kernel, kernel_map) for engine in (native, torchsparse_engine))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def random_set(count: int) -> Coordinates:
    """`count` voxels of a cube that they fill by a third, in no order."""
    side = round((3 * count) ** (1 / 3))
    cells = torch.randperm(side**3, generator=torch.Generator().manual_seed(0))[:count]
    x, y, z = cells // side**2 - side // 2, cells // side % side, cells % side
    return Coordinates(torch.stack([x, y, z, torch.zeros_like(x)], 1).int())


@pytest.mark.parametrize("count", [1, 40, 3000])
@pytest.mark.parametrize("kernel_size, stride, transposed", [(3, 1, False), (2, 2, False), (2, 2, True)])
def test_all_ways_to_multiply_give_the_same(count, kernel_size, stride, transposed, monkeypatch):
    """Slices, blocks and a GPU's tables, forward and backward; with no pairs at all, with padding, large blocks."""
    results = []
    for way in ("slices", "blocks", "tables"):
        monkeypatch.setattr(native, "_in_blocks", lambda feats, way=way: way == "blocks")
        torch.manual_seed(0)
        with as_on_gpu() if way == "tables" else contextlib.nullcontext():
            kernel_map = random_set(count).kernel_map(kernel_size, stride, 1)
            kernel_map = kernel_map.transposed if transposed else kernel_map
            feats = torch.randn(kernel_map.num_in, 5, requires_grad=True)
            kernel = torch.randn(kernel_map.volume, 5, 7, requires_grad=True)
            out = native.convolve(feats, kernel, kernel_map)
            out.backward(torch.randn(out.shape))
        results.append((out.detach(), feats.grad, kernel.grad))
    for expected, *others in zip(*results, strict=True):
        for other in others:
            torch.testing.assert_close(other, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_interpolation_as_on_a_gpu_gives_the_same():
    """There, absent corners stay in the table with weight 0, on rows that are spread out."""
    results = []
    for context in (contextlib.nullcontext(), as_on_gpu()):
        with context:
            coordinates = random_set(500)
            feats = torch.randn(len(coordinates.at(4)), 3, generator=torch.Generator().manual_seed(0))
            x = SparseTensor(feats.requires_grad_(), coordinates, 4)
            points = devoxelize(x)
            (voxelize(points, x).feats ** 2).sum().backward()
            results.append((points.detach(), feats.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_coarser_sets_from_the_loader_are_those_built_on_demand():
    coords = tensor("A_coords")
    given, built = Coordinates(coords, coarser=coarser_sets(coords)), Coordinates(coords)
    for stride in (2, 4, 8, 16):
        assert torch.equal(given.at(stride).coords, built.at(stride).coords)
        assert torch.equal(given.kernel_map(2, 2, stride // 2).table, built.kernel_map(2, 2, stride // 2).table)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_kernel_that_gathers_agrees_with_pytorch():
    """On a CPU, in Triton's interpreter; on a GPU the convolutions' tests run it."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "."}
    command = [sys.executable, os.path.join(HERE, "gather_in_interpreter.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=os.path.dirname(HERE))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == "24"
