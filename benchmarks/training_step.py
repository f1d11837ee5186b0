"""One training step of the full network: ours, in each engine and precision, against the published order of work.

    python3 -m benchmarks.training_step --voxels 5000 --image-size 90 160 --threads 2
    python3 -m benchmarks.training_step --voxels 25000 --image-size 360 640 --threads 2

Prints seconds of the forward pass, the loss, the backward pass and the whole step (with the update), the ratio of the
step to the plain rendering's in the same run, and peak memory. Every variant runs in a process of its own, because the
peak is the process's; the variants take turns, round by round, and the median over all rounds' steps counts. Each step
has voxels of its own, as in training: other sizes in every step cost time, too.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.common import machine, table
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from benchmarks.plain.network import PlainNetwork
from core.losses import LossWeights, loss_terms
from core.models import TwoBranchNetwork
from core.running.memory import keep_freed_memory
from core.sparse import available_engines, choose_engine
from core.training.trainer import network_inputs, targets_of

PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16", "fp16")}
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
PARTS = ("forward", "loss", "backward", "step")
WARM_UP = 2  # steps: the first compiles and fills caches, the second still meets new memory


def main() -> None:
    arguments = parse_arguments()
    if arguments.variant:
        print(json.dumps(measure(arguments)))
        return
    device = torch.device(arguments.device)
    variants = [f"plain {p}" for p in PRECISIONS[device.type][:1]]
    variants += [f"{engine} {p}" for p in PRECISIONS[device.type] for engine in available_engines(device)]
    results: dict[str, list[dict]] = {variant: [] for variant in variants}
    for _ in range(arguments.rounds):
        for variant in variants:
            results[variant].append(run(variant))
    height, width = arguments.image_size
    print(machine())
    print(
        f"Batch {arguments.batch_size}, {arguments.voxels} voxels a sample, six {height}x{width} images, "
        f"cr {arguments.cr}; {arguments.device}, {arguments.threads} threads; "
        f"median of {arguments.rounds} x {arguments.repeats} steps, in s"
    )
    print(table(rows(results, variants[0])))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voxels", type=int, default=5000, help="voxels of a sample")
    parser.add_argument("--image-size", type=int, nargs=2, default=(90, 160), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch-size", type=int, default=1, help="samples in a batch")
    parser.add_argument("--cr", type=float, default=0.64, help="width factor of the point branch")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch on the CPU")
    parser.add_argument("--rounds", type=int, default=2, help="times that each variant takes its turn")
    parser.add_argument("--repeats", type=int, default=5, help="measured steps in each turn")
    parser.add_argument("--variant", help="used by the script itself: measure this one alone, print JSON")
    return parser.parse_args()


def run(variant: str) -> dict:
    """Measures a variant in a new process with this one's arguments."""
    command = [sys.executable, "-m", "benchmarks.training_step", *sys.argv[1:], "--variant", variant]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(arguments: argparse.Namespace) -> dict:
    """Seconds of each part of each step, and the peak memory in GiB."""
    engine, precision = arguments.variant.split()
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    kind = PlainNetwork if engine == "plain" else TwoBranchNetwork
    network = kind(NUM_CLASSES, cr=arguments.cr).to(device).train()
    if engine != "plain":
        choose_engine(engine, device)
        if device.type == "cpu":
            keep_freed_memory()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    weights = LossWeights()

    def step(seed: int) -> list[float]:
        size = (arguments.image_size[0], arguments.image_size[1])
        batch = made_up_batch(arguments.voxels, size, arguments.batch_size, seed).to(device)
        targets, inputs = targets_of(batch), network_inputs(batch)
        times = [now(device)]
        with torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST):
            outputs = network(**inputs)
        times.append(now(device))
        total = loss_terms(outputs, targets, weights)["total"]
        times.append(now(device))
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(total).backward()
        times.append(now(device))
        scaler.step(optimizer)
        scaler.update()
        times.append(now(device))
        return [*(b - a for a, b in zip(times[:3], times[1:4], strict=True)), times[-1] - times[0]]

    for seed in range(WARM_UP):
        step(seed)
    seconds = [dict(zip(PARTS, step(WARM_UP + i), strict=True)) for i in range(arguments.repeats)]
    return {"seconds": seconds, "peak": peak_memory(device)}


def now(device: torch.device) -> float:
    """Seconds, when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_memory(device: torch.device) -> float:
    """GiB: of the GPU's memory in tensors, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def rows(results: dict[str, list[dict]], baseline: str) -> list[dict[str, str]]:
    """A table row for each variant."""

    def median(variant: str, part: str) -> float:
        return statistics.median(step[part] for result in results[variant] for step in result["seconds"])

    lines = []
    for variant, turns in results.items():
        line = dict(zip(("engine", "precision"), variant.split(), strict=True))
        line |= {part: f"{median(variant, part):.3f}" for part in PARTS}
        line["to plain"] = f"{median(variant, 'step') / median(baseline, 'step'):.2f}"
        line["peak memory, GiB"] = f"{max(turn['peak'] for turn in turns):.1f}"
        lines.append(line)
    return lines


if __name__ == "__main__":
    main()
