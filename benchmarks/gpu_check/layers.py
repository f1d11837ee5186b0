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
    precisions = ("bf16", "tf32", "fp16", "fp32") if device.type == "cuda" else ("fp32", "bf16")
    cases = [
        sparse_layers.Case(count, layer, width, precision)
        for precision in precisions
        for count in voxels
        for layer in sparse_layers.LAYERS
        for width in channels
    ]
    bench = sparse_layers.Bench(device, repeats=3)
    others = [name for name in ("torchsparse", "spconv") if name in available_engines(device)]
    for engines in (("plain", "native"), *((name,) for name in others)):
        measured = 0
        for case in cases:
            if time.monotonic() - begin > task.seconds - _RESERVE:
                break
            for engine in engines:
                with answers.trying(f"{engine} {case}"):
                    row = bench.measure(engine, case)
                    answers.add(f"{engine} {case}", row.values(), row.wrong())
            measured += 1
        if measured < len(cases):
            missing = "not all layers were measured" if "native" in engines else ""
            answers.add(f"{engines[-1]}: no time for all", {"cases": measured, "of": len(cases)}, missing)


if __name__ == "__main__":
    run_part(2, main)
