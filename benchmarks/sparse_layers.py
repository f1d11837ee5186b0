"""Sparse convolutions, kernel 3 at stride 1: every engine against plain gathering, multiplying and scattering.

    python3 -m benchmarks.sparse_layers --device cpu --voxels 50000 200000 --channels 32 64 128 256

Prints milliseconds of the forward pass and of the backward pass, and ratios to the plain rendering in the same run.
Voxels lie on a LiDAR's shell; the kernel maps are built beforehand, for both, as a network builds them once.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.common import alternate, machine, table
from benchmarks.lidar_shell import lidar_shell
from benchmarks.plain.sparse import PlainCoordinates, plain_convolution
from core.sparse import Coordinates, available_engines, engines

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Convolve = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    device = torch.device(arguments.device)
    rows = []
    for count in arguments.voxels:
        layers = convolutions(lidar_shell(count).to(device), device)
        for channels in arguments.channels:
            for precision in arguments.precisions:
                rows += measure(layers, count, channels, precision, device, arguments.repeats)
    print(machine())
    print(f"{device.type}, {arguments.threads} threads, TF32 {arguments.tf32}; median of {arguments.repeats}, in ms")
    print(table(rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--voxels", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["fp32", "bf16"])
    parser.add_argument("--tf32", action="store_true", help="TF32 on GPUs where the precision is fp32")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def convolutions(coords: Tensor, device: torch.device) -> dict[str, Convolve]:
    """The plain convolution and that of each engine, on these voxels."""
    book, kernel_map = PlainCoordinates(coords).rule_book(3, 1), Coordinates(coords).kernel_map(3, 1, 1)

    def by_engine(name: str) -> Convolve:
        def convolve(feats: Tensor, kernel: Tensor) -> Tensor:
            return engines.convolve_by(name, feats, kernel, kernel_map)

        return convolve

    layers: dict[str, Convolve] = {name: by_engine(name) for name in available_engines(device)}
    return {"plain": lambda feats, kernel: plain_convolution(feats, kernel, book, len(coords)), **layers}


def measure(
    layers: dict[str, Convolve], count: int, channels: int, precision: str, device: torch.device, repeats: int
) -> list[dict[str, str]]:
    """A table row for each layer."""
    dtype = PRECISIONS[precision]
    feats = torch.randn(count, channels, device=device, dtype=dtype, requires_grad=True)
    kernel = torch.randn(27, channels, channels, device=device, dtype=dtype, requires_grad=True)
    grad = torch.randn(count, channels, device=device, dtype=dtype)
    outputs: dict[str, Tensor] = {}

    def forward(name: str) -> None:
        outputs[name] = layers[name](feats, kernel)

    def backward(name: str) -> None:
        torch.autograd.grad(outputs[name], (feats, kernel), grad, retain_graph=True)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds = {}
    for step in (forward, backward):
        functions: dict[str, Callable[[], object]] = {name: partial(step, name) for name in layers}
        seconds[step] = {name: statistics.median(s) for name, s in alternate(functions, repeats, clock).items()}
    together = {name: seconds[forward][name] + seconds[backward][name] for name in layers}
    return [
        {
            "voxels": f"{count}",
            "channels": f"{channels}",
            "precision": precision,
            "engine": name,
            "forward": f"{1e3 * seconds[forward][name]:.1f}",
            "backward": f"{1e3 * seconds[backward][name]:.1f}",
            "to plain": f"{together[name] / together['plain']:.2f}",
        }
        for name in layers
    ]


if __name__ == "__main__":
    main()
