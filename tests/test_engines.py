"""Which engine is taken, by what is installed and can be called; the spconv engine by hand and in Triton."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from core.errors import UserError
from core.sparse import Coordinates, engines
from core.sparse.spconv_engine import from_spconv, to_spconv
from tests.helpers import HERE, golden

GPU = torch.device("cuda")


def forward_1_4(ctx, feats, kernel, pairs, numbers, sizes, transposed=False):
    """The arguments of torchsparse 1.4's convolution."""


def forward_2_0(ctx, feats, kernel, pairs, numbers, buffer, sizes, transposed=False):
    """Those of a later one."""


@pytest.fixture
def install(monkeypatch):
    """Puts a torchsparse in the place of what is installed; nothing else is."""
    monkeypatch.setattr(engines, "_chosen", "native")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)

    def installed(version, **functions):
        monkeypatch.setattr(engines, "find_spec", lambda name: name == "torchsparse" or None)
        names = ("torchsparse", "torchsparse.nn", "torchsparse.nn.functional", "torchsparse.nn.functional.conv")
        for name in names:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[names[0]])["__version__"] = version
        vars(sys.modules[names[-1]]).update(functions)

    return installed


def test_the_torchsparse_that_is_called_is_taken(install):
    install("1.4.0", ConvolutionFunction=SimpleNamespace(forward=forward_1_4))
    assert engines.torchsparse_fault() is None
    assert engines.available_engines(GPU) == ["torchsparse", "native"]
    assert engines.available_engines(torch.device("cpu")) == ["native"]
    assert engines.choose_engine("auto", GPU) == "torchsparse"


@pytest.mark.parametrize(
    ("version", "functions", "fault"),
    [
        ("2.1.0", {}, "cannot import name 'ConvolutionFunction'"),
        ("2.0.0", {"ConvolutionFunction": SimpleNamespace(forward=forward_2_0)}, "version 2.0.0 has other functions"),
        ("2.0.0", {"ConvolutionFunction": SimpleNamespace(forward=forward_1_4)}, "version 2.0.0 has other functions"),
        ("1.4.0", {"ConvolutionFunction": SimpleNamespace(forward=forward_2_0)}, "version 1.4.0 has other functions"),
        ("1.4.0", {"ConvolutionFunction": SimpleNamespace()}, "it does not load, or has other functions"),
    ],
)
def test_another_torchsparse_is_passed_over(install, log, version, functions, fault):
    install(version, **functions)
    assert engines.choose_engine("auto", GPU) == "native"
    assert "torchsparse is installed, but not taken" in log[0] and fault in log[0]
    with pytest.raises(UserError, match=r"'torchsparse' does not run on cuda here \(it needs a GPU and .*v1\.4"):
        engines.choose_engine("torchsparse", GPU)


GOLDEN = golden("sparse_ops.npz")
COORDS = torch.from_numpy(GOLDEN["A_coords"])[:300]


def kernel_maps():
    """Every kind of kernel map of the network."""
    coordinates = Coordinates(COORDS)
    down = coordinates.kernel_map(2, 2, 1)
    return {"k3s1": coordinates.kernel_map(3, 1, 1), "k2s2": down, "transposed": down.transposed}


def test_table_and_order_by_hand():
    """Three voxels in a row and one apart; offsets with x running fastest, so -x is slice 12 and +x slice 14."""
    kernel_map = Coordinates(torch.tensor([[5, 0, 0, 0], [6, 0, 0, 0], [40, 0, 0, 0], [4, 0, 0, 0]]).int()).kernel_map(
        3, 1, 1
    )
    expected = torch.full((27, 4), -1, dtype=torch.int32)
    expected[13] = torch.tensor([0, 1, 2, 3])
    expected[12, 0], expected[12, 1] = 3, 0
    expected[14, 0], expected[14, 3] = 1, 0
    assert torch.equal(kernel_map.table, expected)
    mask, order = kernel_map.rows_by_slices
    assert order.tolist() == [2, 1, 3, 0]
    assert mask.tolist() == [1 << 13, (1 << 13) + (1 << 12), (1 << 13) + (1 << 14), (1 << 12) + (1 << 13) + (1 << 14)]


@pytest.mark.parametrize("name", ["k3s1", "k2s2", "transposed"])
def test_what_its_kernel_documents_is_our_convolution(name):
    """out[m] = sum_k feats[table[k, m]] @ weight[:, k].T, in plain PyTorch on the tables and turned weights."""
    from core.sparse import native

    torch.manual_seed(0)
    kernel_map = kernel_maps()[name]
    kernel, feats = torch.randn(len(kernel_map.sizes), 6, 5), torch.randn(kernel_map.num_in, 6)
    weight, out = to_spconv(kernel), torch.zeros(kernel_map.num_out, 5)
    assert weight.shape == (5, len(kernel), 6) and torch.equal(from_spconv(weight), kernel)
    for k, rows in enumerate(kernel_map.table.long()):
        out += torch.where(rows[:, None] >= 0, feats[rows.clamp(min=0)], 0) @ weight[:, k].t()
    torch.testing.assert_close(out, native.convolve(feats, kernel, kernel_map))


@pytest.mark.skipif(importlib.util.find_spec("spconv_triton") is None, reason="spconv-triton is not installed")
def test_real_kernels_agree_with_native():
    """Forward and backward of every kind of map, on a CPU in Triton's interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, os.path.join(HERE, "spconv_in_interpreter.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=os.path.dirname(HERE))
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["k3s1", "k2s2", "transposed"]


def test_engines_are_offered_where_they_run(monkeypatch):
    """spconv has to be asked for by name; on a CPU it is refused with what to install."""
    from core.errors import UserError
    from core.sparse import engines

    monkeypatch.setattr(engines, "find_spec", lambda name: name == "spconv_triton" or None)
    assert engines.available_engines(torch.device("cuda")) == ["native", "spconv"]
    assert engines.available_engines(torch.device("cpu")) == ["native"]
    with pytest.raises(UserError, match="does not run on cpu here.*pip install spconv-triton.*native"):
        engines.choose_engine("spconv", torch.device("cpu"))
