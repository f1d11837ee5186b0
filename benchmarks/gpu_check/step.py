"""Part 3: the training step of the published configuration by the real trainer, in each precision."""

import gc
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torchpack.callbacks import Callback

from benchmarks.gpu_check.answers import Answers, Task, Values, run_part
from benchmarks.made_up_batch import NUM_CLASSES, made_up_batch
from core.losses import LossWeights
from core.models import TwoBranchNetwork
from core.running.runtime import prepare_device, seed_everything
from core.sparse import choose_engine
from core.training.trainer import SegmentationTrainer

AMP = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
FULL: Values = {"voxels": 25_000, "image_size": (360, 640), "batch_size": 4, "network": {"cr": 0.64}}
TOY: Values = {
    "voxels": 200,
    "image_size": (24, 40),
    "batch_size": 2,
    "network": {"cr": 0.125, "proj_channel": 8, "image_blocks": (1, 1, 1, 1)},
}
WARM_UP, TIMED = 3, 10  # steps; then one whose synchronisations are counted, and one that is profiled
_PLACES = 12  # of synchronisations and kernels that are named


class Batches:
    """The loader's place: the same few batches in turn, in page-locked memory where there is a GPU."""

    sampler = None

    def __init__(self, batches: list[Any], count: int) -> None:
        self.batches, self.count = batches, count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        for step in range(self.count):
            yield self.batches[step % len(self.batches)]


class Measurement(Callback):
    """Times steps WARM_UP + 1 to WARM_UP + TIMED together, then counts synchronisations, then profiles a step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.values: Values = {}
        self.begin = 0.0
        self.recorder: Any = None
        self.caught: list[Any] = []
        self.profiler: Any = None

    def _before_step(self, batch: Any) -> None:
        step = self.trainer.global_step - WARM_UP
        if step == 1:
            self.begin = self._now()
        elif step == TIMED + 1:
            self.values["ms"] = round(1e3 * (self._now() - self.begin) / TIMED, 2)
            self.recorder = warnings.catch_warnings(record=True)
            self.caught = self.recorder.__enter__()
            warnings.simplefilter("always")
            self._warn_of_synchronisations("warn")
        elif step == TIMED + 2:
            activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])]
            self.profiler = profile(activities=activities)
            self.profiler.__enter__()

    def _after_step(self, output: Any) -> None:
        step = self.trainer.global_step - WARM_UP
        if step == TIMED + 1:
            self._warn_of_synchronisations("default")
            self.recorder.__exit__(None, None, None)
            self.values |= synchronisations(self.caught)
        elif step == TIMED + 2:
            self._now()
            self.profiler.__exit__(None, None, None)
            self.values |= kernels(self.profiler, self.device)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _warn_of_synchronisations(self, mode: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.set_sync_debug_mode(mode)


def synchronisations(caught: list[Any]) -> Values:
    """How often the host waited, and where."""
    found = [warning for warning in caught if "synchroniz" in str(warning.message)]
    places = Counter(f"{'/'.join(w.filename.split('/')[-3:])}:{w.lineno}" for w in found)
    return {"synchronisations": len(found), "places": [list(place) for place in places.most_common(_PLACES)]}


def kernels(profiler: Any, device: torch.device) -> Values:
    """Number and time of the GPU's kernels, and the longest; on a CPU of the operations."""
    on_gpu = device.type == "cuda"
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [event for event in profiler.events() if event.device_type == kind]
    copies = [event for event in events if event.name.startswith(("Memcpy", "Memset"))]
    time_by_name: Counter[str] = Counter()
    for event in events:
        time_by_name[event.name[:90]] += event.device_time if on_gpu else event.self_cpu_time_total
    return {
        "kernels": len(events) - len(copies),
        "copies": len(copies),
        "busy ms": round(sum(time_by_name.values()) / 1e3, 2),
        "longest": [[name, round(t / 1e3, 3)] for name, t in time_by_name.most_common(_PLACES)],
    }


def measure(precision: str, sizes: Values, device: torch.device) -> Values:
    """The figures of one precision."""
    prepare_device(device, precision != "fp32")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    torch.manual_seed(0)
    network = TwoBranchNetwork(NUM_CLASSES, **sizes["network"]).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True)
    trainer = SegmentationTrainer(
        network, LossWeights(), optimizer, lambda iteration: 1.0, device, amp_dtype=AMP[precision], log_every=10
    )
    batches = [made_up_batch(sizes["voxels"], sizes["image_size"], sizes["batch_size"], seed) for seed in range(3)]
    if device.type == "cuda":
        batches = [batch.pin_memory() for batch in batches]
    measurement = Measurement(device)
    trainer.train(Batches(batches, WARM_UP + TIMED + 2), num_epochs=1, callbacks=[measurement])  # type: ignore[arg-type]
    values = measurement.values
    values["busy %"] = round(100 * values["busy ms"] / values["ms"], 1)
    if device.type == "cuda":
        values["peak GiB"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    return values


def main(task: Task, answers: Answers) -> None:
    """Each precision, the quick ones first."""
    device = torch.device(task.device)
    seed_everything(0, deterministic=False)
    engine = choose_engine("auto", device)
    for precision in ("bf16", "tf32", "fp16", "fp32") if device.type == "cuda" else ("fp32", "bf16"):
        what = f"step {precision}, {engine}"
        with answers.trying(what):
            answers.add(what, measure(precision, TOY if task.toy else FULL, device))
        gc.collect()  # the next one's peak is its own
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    run_part(3, main)
