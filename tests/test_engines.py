"""Which engine is taken, by what is installed and can be called."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from core.errors import UserError
from core.sparse import engines

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
