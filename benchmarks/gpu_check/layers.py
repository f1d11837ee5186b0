"""Part 2: sparse layers by each engine. Native's rows come first; an engine that compiles for long comes last."""

import time

import torch

from benchmarks import sparse_layers
from benchmarks.gpu_check.answers import Answers, Task, run_part
from core.sparse import available_engines

_RESERVE = 8  # s before the cap at which no further row is begun


def main(task: Task, answers: Answers) -> None:
    """All layers at all sizes; rows of other engines than native as far as the time goes."""
    begin, device = time.monotonic(), torch.device(task.device)
    voxels, channels = ((300,), (8,)) if task.toy else ((50_000, 200_000), (32, 64, 128, 256))
    precisions = ("fp32", "tf32", "bf16", "fp16") if device.type == "cuda" else ("fp32", "bf16")
    cases = [
        sparse_layers.Case(count, layer, width, precision)
        for precision in precisions
        for count in voxels
        for layer in sparse_layers.LAYERS
        for width in channels
    ]
    bench = sparse_layers.Bench(device, repeats=3)
    for engine in [name for name in ("plain", "native", "torchsparse", "spconv") if _is_there(name, device)]:
        left_out = 0
        for case in cases:
            if time.monotonic() - begin > task.seconds - _RESERVE:
                left_out += 1
                continue
            with answers.trying(f"{engine} {case}"):
                row = bench.measure(engine, case)
                answers.add(f"{engine} {case}", row.values(), row.wrong())
        if left_out:
            missing = "native's rows are not complete" if engine in ("plain", "native") else ""
            answers.add(f"{engine}: no time for all", {"rows": len(cases) - left_out, "of": len(cases)}, missing)


def _is_there(engine: str, device: torch.device) -> bool:
    return engine == "plain" or engine in available_engines(device)


if __name__ == "__main__":
    run_part(2, main)
