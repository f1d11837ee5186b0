"""Which engine multiplies: the one place where that is decided.

All engines work on the same voxel sets, kernel maps and kernels [K, Cin, Cout]; they differ in how the pairs of a
kernel map are multiplied and summed. So checkpoints and results move between them.
"""

import inspect
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor
from torchpack.utils.logging import logger

from core.errors import UserError
from core.sparse import native, spconv_engine, torchsparse_engine
from core.sparse.kernel_map import KernelMap

Convolve = Callable[[Tensor, Tensor, KernelMap], Tensor]

_CONVOLVE: dict[str, Convolve] = {
    "native": native.convolve,
    "torchsparse": torchsparse_engine.convolve,
    "spconv": spconv_engine.convolve,
}
_NEEDS = {
    "torchsparse": "the torchsparse package, v1.4, compiled from source",
    "spconv": "the spconv-triton package: pip install spconv-triton",
}
_TORCHSPARSE_ARGUMENTS = 7
"""Of `ConvolutionFunction.forward`: context, features, kernel, pairs, their numbers, sizes, transposed."""
_chosen = "native"


def available_engines(device: torch.device) -> list[str]:
    """Names of the engines that are installed and suit the device, in the order in which "auto" prefers them.

    torchsparse, which is built for the machine by hand, comes first where it is the version that we call. spconv comes
    last as long as nobody has measured it to be faster than native here: it has to be asked for by name.
    """
    # The CPU build of torchsparse 1.4.0 has no convolution backward; spconv-triton has no CPU kernels.
    on_gpu = device.type == "cuda"
    torchsparse = ["torchsparse"] if on_gpu and torchsparse_fault() is None else []
    spconv = ["spconv"] if on_gpu and find_spec("spconv_triton") is not None else []
    return [*torchsparse, "native", *spconv]


def torchsparse_fault() -> str | None:
    """What keeps torchsparse from being called: its functions are others in every minor version. None: nothing."""
    if find_spec("torchsparse") is None:
        return "it is not installed"
    try:
        import torchsparse
        from torchsparse.nn.functional.conv import ConvolutionFunction

        arguments = len(inspect.signature(ConvolutionFunction.forward).parameters)
    except Exception as error:  # of a build that does not fit this PyTorch: whatever its loader raises
        return f"it does not load, or has other functions ({error})"
    version = getattr(torchsparse, "__version__", "unknown")
    fits = str(version).startswith("1.4.") and arguments == _TORCHSPARSE_ARGUMENTS
    return None if fits else f"version {version} has other functions"


def choose_engine(name: str, device: torch.device) -> str:
    """Sets the engine of all sparse convolutions of this process and logs it.

    Args:
        name: "native", "torchsparse", "spconv" or "auto" (see `available_engines`).
    Returns the name of the engine taken.
    Raises UserError for an unknown engine or one that does not run here.
    """
    global _chosen
    available = available_engines(device)
    if name != "auto" and name not in _CONVOLVE:
        raise UserError(f"model.sparse_engine: '{name}' is unknown; known are auto, {', '.join(_CONVOLVE)}")
    passed_over = torchsparse_fault() if device.type == "cuda" and find_spec("torchsparse") is not None else None
    if name != "auto" and name not in available:
        found = f"; {passed_over}" if name == "torchsparse" and passed_over else ""
        raise UserError(
            f"model.sparse_engine: '{name}' does not run on {device.type} here (it needs a GPU and {_NEEDS[name]}"
            f"{found}); use --model.sparse_engine native"
        )
    if name == "auto" and passed_over:
        logger.info(f"torchsparse is installed, but not taken, since v1.4 is needed: {passed_over}.")
    _chosen = available[0] if name == "auto" else name
    logger.info(f"Sparse engine: {_chosen} on {device.type}.")
    return _chosen


def convolve(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolution by the chosen engine: [num_in, Cin], [K, Cin, Cout] -> [num_out, Cout]."""
    return convolve_by(_chosen, feats, kernel, kernel_map)


def convolve_by(name: str, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolution by the named engine, whichever is chosen."""
    return _CONVOLVE[name](feats, kernel, kernel_map)
