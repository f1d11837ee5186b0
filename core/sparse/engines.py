"""Which engine multiplies: the one place where that is decided.

All engines work on the same voxel sets, kernel maps and kernels [K, Cin, Cout]; they differ in how the pairs of a
kernel map are multiplied and summed. So checkpoints and results move between them.
"""

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
    "torchsparse": "the torchsparse package, v1.4.0, compiled from source",
    "spconv": "the spconv-triton package: pip install spconv-triton",
}
_chosen = "native"


def available_engines(device: torch.device) -> list[str]:
    """Names of the engines that are installed and suit the device, in the order in which "auto" prefers them.

    torchsparse, which is built for the machine by hand, comes first. spconv comes last as long as nobody has measured
    it to be faster than native here: it has to be asked for by name.
    """
    # The CPU build of torchsparse 1.4.0 has no convolution backward; spconv-triton has no CPU kernels.
    on_gpu = device.type == "cuda"
    torchsparse = ["torchsparse"] if on_gpu and find_spec("torchsparse") is not None else []
    spconv = ["spconv"] if on_gpu and find_spec("spconv_triton") is not None else []
    return [*torchsparse, "native", *spconv]


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
    if name != "auto" and name not in available:
        raise UserError(
            f"model.sparse_engine: '{name}' does not run on {device.type} here (it needs a GPU and {_NEEDS[name]}); "
            "use --model.sparse_engine native"
        )
    _chosen = available[0] if name == "auto" else name
    logger.info(f"Sparse engine: {_chosen} on {device.type}.")
    return _chosen


def convolve(feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolution by the chosen engine: [num_in, Cin], [K, Cin, Cout] -> [num_out, Cout]."""
    return convolve_by(_chosen, feats, kernel, kernel_map)


def convolve_by(name: str, feats: Tensor, kernel: Tensor, kernel_map: KernelMap) -> Tensor:
    """Convolution by the named engine, whichever is chosen."""
    return _CONVOLVE[name](feats, kernel, kernel_map)
