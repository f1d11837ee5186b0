"""Runs an entry script as it is, and watches its training steps and its network.

python3 -m benchmarks.gpu_check.watched WATCH SCRIPT ARGUMENT...

WATCH is JSON: {"folder", "part", "label", "warm_up", "marks"}.
"""

import json
import sys
import time
from typing import Any

from benchmarks.gpu_check.answers import Answers, Values

_PROFILED = 3  # steps after the last mark


def training_watch(answers: Answers, label: str, warm_up: int, marks: list[int]) -> Any:
    """A callback that writes an answer when `marks` steps after `warm_up` are done, and profiles the steps after.

    The GPU waits for the loader from the end of a step's work, in its own time, until the next step's work begins;
    ends of epochs are left out. Figures are of all steps since the warm-up.
    """
    import torch
    from torchpack.callbacks import Callback

    on_gpu = torch.cuda.is_available()

    class Watch(Callback):
        """See `training_watch`."""

        def __init__(self) -> None:
            self.steps = self.frames = 0
            self.begin = self.left = self.host = 0.0
            self.gaps: list[tuple[Any, Any]] = []
            self.end: Any = None
            self.profiler: Any = None
            self.ms = 0.0

        def _before_epoch(self) -> None:
            self.end, self.left = None, 0.0

        def _before_step(self, batch: Any) -> None:
            if self.left:
                self.host += time.perf_counter() - self.left
            if on_gpu:
                event = _event()
                if self.end is not None:
                    self.gaps.append((self.end, event))
            self.frames += len(batch.sizes)

        def _after_step(self, output: Any) -> None:
            self.end = _event() if on_gpu else None

        def _trigger_step(self) -> None:
            self.steps += 1
            done = self.steps - warm_up
            if done == 0:
                self.begin, self.frames, self.host, self.gaps = _now(), 0, 0.0, []
            elif done in marks:
                self._answer(done)
                if done == marks[-1] and on_gpu:
                    self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
                    self.profiler.__enter__()
            elif self.profiler is not None and done == marks[-1] + _PROFILED:
                self._answer_busy()
            self.left = time.perf_counter()

        def _answer(self, done: int) -> None:
            seconds = _now() - self.begin
            self.ms = 1e3 * seconds / done
            values: Values = {
                "samples/s": round(self.frames / seconds, 2),
                "ms a step": round(self.ms, 1),
                "host waits for a batch %": round(100 * self.host / seconds, 1),
            }
            if on_gpu:
                waited = sum(end.elapsed_time(begin) for end, begin in self.gaps) / 1e3
                values |= {
                    "GPU waits for a batch %": round(100 * waited / seconds, 1),
                    "allocated GiB": round(torch.cuda.memory_allocated() / 2**30, 3),
                    "reserved GiB": round(torch.cuda.memory_reserved() / 2**30, 2),
                    "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
                }
            answers.add(f"{label}, step {done}", values)

        def _answer_busy(self) -> None:
            _now()
            self.profiler.__exit__(None, None, None)
            events = [e for e in self.profiler.events() if e.device_type == torch.autograd.DeviceType.CUDA]
            busy = sum(event.device_time for event in events) / 1e3 / _PROFILED
            values = {"GPU busy, ms a step": round(busy, 1), "busy %": round(100 * busy / self.ms, 1)}
            answers.add(f"{label}, GPU", {**values, "kernels and copies a step": len(events) // _PROFILED})
            self.profiler = None

    def _now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def _event() -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return Watch()


class InferenceWatch:
    """Counts the frames that a network is given, from its first call."""

    def __init__(self) -> None:
        self.begin = 0.0
        self.frames = 0

    def __call__(self, network: Any, arguments: Any, named: dict[str, Any]) -> None:
        self.begin = self.begin or time.perf_counter()
        self.frames += len(named["images"])

    def values(self) -> Values:
        """Frames a second from the first call until now: reading, network, rules or scores, files."""
        seconds = time.perf_counter() - self.begin
        return {"frames/s": round(self.frames / seconds, 2), "frames": self.frames, "seconds": round(seconds, 2)}


def main() -> None:
    """Runs the script; the last answer is of its inference, where it does not train."""
    watch, script, *words = sys.argv[1:]
    told = json.loads(watch)
    sys.argv = [f"{script}.py", *words]

    import importlib

    from core import builder
    from core.running.runtime import run_main
    from core.training.trainer import SegmentationTrainer

    answers, inference, trained = Answers(told["folder"], told["part"]), InferenceWatch(), []
    make_model, train = builder.make_model, SegmentationTrainer.train

    def watched_model(*arguments: Any, **options: Any) -> Any:
        network = make_model(*arguments, **options)
        network.register_forward_pre_hook(inference, with_kwargs=True)
        return network

    def watched_train(trainer: Any, dataflow: Any, *, num_epochs: int, callbacks: list[Any]) -> None:
        trained.append(trainer)
        watch = training_watch(answers, told["label"], told["warm_up"], told["marks"])
        train(trainer, dataflow, num_epochs=num_epochs, callbacks=[*callbacks, watch])

    builder.make_model = watched_model
    SegmentationTrainer.train = watched_train  # type: ignore[method-assign]
    run_main(importlib.import_module(script).main)
    if not trained:
        answers.add(told["label"], inference.values())


if __name__ == "__main__":
    main()
