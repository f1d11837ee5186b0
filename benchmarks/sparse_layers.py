"""Sparse convolutions: every engine against plain gathering, multiplying and scattering.

    python3 -m benchmarks.sparse_layers --device cpu --voxels 50000 200000 --channels 32 64 128 256

Prints, as each row is there, milliseconds of the forward pass and of the backward pass, their ratio to the plain
rendering of the same run and precision, and the largest difference from the plain float32 results relative to their
largest value (output and both gradients). Layers: kernel 3 at stride 1, kernel 2 at stride 2, and its transposed form.
Voxels lie on a LiDAR's shell; the kernel maps are built beforehand, for all, as a network builds them once.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.common import machine
from benchmarks.lidar_shell import lidar_shell
from benchmarks.plain.sparse import PlainCoordinates, hash_rows, plain_convolution
from core.sparse import Coordinates, available_engines, engines
from core.sparse.kernel_map import KernelMap

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCES = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}
"""Largest difference from plain float32, relative to the largest value."""
LAYERS = ("kernel 3", "stride 2", "transposed")
RuleBook = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """A layer at one size; channels are those of input and output."""

    voxels: int
    layer: str
    channels: int
    precision: str

    def __str__(self) -> str:
        return f"{self.layer}, {self.voxels} voxels, {self.channels} channels, {self.precision}"


@dataclass(frozen=True)
class Row:
    """What was measured of an engine in a case.

    Attributes:
        forward, backward: ms.
        to_plain: ratio of their sum to the plain rendering's; NaN where that was not measured before.
        difference: see the module.
    """

    case: Case
    forward: float
    backward: float
    to_plain: float
    difference: float

    def values(self) -> dict[str, float]:
        """The figures by name."""
        return {
            "forward ms": round(self.forward, 3),
            "backward ms": round(self.backward, 3),
            "to plain": round(self.to_plain, 3),
            "difference": float(f"{self.difference:.1e}"),
        }

    def wrong(self) -> str:
        """What is wrong with the results, "" where nothing is."""
        allowed = TOLERANCES[self.case.precision]
        return "" if self.difference <= allowed else f"differs by {self.difference:.1e}, allowed are {allowed}"


class Layers:
    """The rule books of one set of voxels, as the plain rendering and as the engines want them."""

    def __init__(self, voxels: int, device: torch.device) -> None:
        coords = lidar_shell(voxels).to(device)
        self.coordinates, plain = Coordinates(coords), PlainCoordinates(coords)
        fine, down = self.coordinates.kernel_map(3, 1, 1), self.coordinates.kernel_map(2, 2, 1)
        self.maps: dict[str, KernelMap] = dict(zip(LAYERS, (fine, down, down.transposed), strict=True))
        coarse = self.coordinates.at(2).coords
        ours = torch.empty(len(coarse), dtype=torch.int64, device=device)  # the plain set's rows are ordered otherwise
        ours[hash_rows(plain.coords(2)).argsort()] = hash_rows(coarse).argsort()
        halved = [(rows, ours[out_rows]) for rows, out_rows in plain.rule_book(2, 1)]
        doubled = [(out_rows, rows) for rows, out_rows in halved]
        self.books: dict[str, RuleBook] = dict(zip(LAYERS, (plain.rule_book(3, 1), halved, doubled), strict=True))
        sizes = (len(coords), len(coarse))
        self.rows = dict(zip(LAYERS, ((sizes[0], sizes[0]), sizes, sizes[::-1]), strict=True))


class Bench:
    """Measures cases; keeps the plain rendering's times for the ratios.

    Args:
        repeats: measured calls; the median counts, one call before them does not.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.plain: dict[Case, float] = {}
        self.layers = lru_cache(maxsize=None)(lambda voxels: Layers(voxels, device))

    def measure(self, engine: str, case: Case) -> Row:
        """One row; `engine` is "plain" or one of `core.sparse.available_engines`."""
        torch.manual_seed(0)
        layers, dtype = self.layers(case.voxels), PRECISIONS[case.precision]
        num_in, num_out = layers.rows[case.layer]
        volume = len(layers.books[case.layer])
        feats = torch.randn(num_in, case.channels, device=self.device).to(dtype).requires_grad_()
        kernel = torch.randn(volume, case.channels, case.channels, device=self.device).to(dtype).requires_grad_()
        grad = torch.randn(num_out, case.channels, device=self.device).to(dtype)

        def run(name: str, feats: Tensor, kernel: Tensor) -> Tensor:
            if name == "plain":
                return plain_convolution(feats, kernel, layers.books[case.layer], num_out)
            return engines.convolve_by(name, feats, kernel, layers.maps[case.layer])

        def results(name: str, *inputs: Tensor) -> list[Tensor]:
            leaves = [tensor.detach().requires_grad_() for tensor in inputs[:2]]
            output = run(name, *leaves)
            return [output.detach(), *torch.autograd.grad(output, leaves, inputs[2])]

        allowed = torch.backends.cuda.matmul.allow_tf32
        try:
            torch.backends.cuda.matmul.allow_tf32 = False
            exact = results("plain", feats.float(), kernel.float(), grad.float())
            torch.backends.cuda.matmul.allow_tf32 = case.precision == "tf32"
            difference = largest_difference(results(engine, feats, kernel, grad), exact)
            forward = self._median_ms(lambda: run(engine, feats, kernel))
            output = run(engine, feats, kernel)
            backward = self._median_ms(lambda: torch.autograd.grad(output, (feats, kernel), grad, retain_graph=True))
        finally:
            torch.backends.cuda.matmul.allow_tf32 = allowed
        if engine == "plain":
            self.plain[case] = forward + backward
        return Row(case, forward, backward, (forward + backward) / self.plain.get(case, float("nan")), difference)

    def _median_ms(self, function: Callable[[], object]) -> float:
        times = []
        for _ in range(self.repeats + 1):
            begin = self._now()
            function()
            times.append(self._now() - begin)
        return 1e3 * statistics.median(times[1:])

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def largest_difference(ours: list[Tensor], exact: list[Tensor]) -> float:
    """Largest difference of any tensor, relative to its largest value; infinite where one is not finite."""
    differences = [float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(ours, exact, strict=True)]
    return max(difference if difference == difference else float("inf") for difference in differences)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    bench = Bench(device, arguments.repeats)
    print(machine())
    print(f"{device.type}, {arguments.threads} threads; median of {arguments.repeats}, in ms")
    columns = ("voxels", "layer", "channels", "precision", "engine", "forward", "backward", "to plain", "difference")
    print_row(columns)
    print("|" + "|".join("-" * 12 for _ in columns) + "|")
    for voxels in arguments.voxels:
        for layer in arguments.layers:
            for channels in arguments.channels:
                for precision in arguments.precisions:
                    case = Case(voxels, layer, channels, precision)
                    for engine in ["plain", *(arguments.engines or available_engines(device))]:
                        row = bench.measure(engine, case)
                        figures = (f"{row.forward:.2f}", f"{row.backward:.2f}", f"{row.to_plain:.2f}")
                        cells = (f"{voxels}", layer, f"{channels}", precision, engine, *figures)
                        print_row((*cells, f"{row.difference:.1e}"))


def print_row(cells: tuple[str, ...]) -> None:
    """A row of a Markdown table, at once."""
    print("| " + " | ".join(cell.ljust(10) for cell in cells) + " |", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--voxels", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=LAYERS[:1])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=["fp32", "bf16"])
    parser.add_argument("--engines", nargs="+", help="default: all that run here")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
