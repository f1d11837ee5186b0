"""Runs the parts, shows their answers as they come, ends with tables and gpu_check.json."""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu_check.answers import Answers
from benchmarks.gpu_check.city import READY
from benchmarks.gpu_check.report import report, write_report

MODULES = {1: "device_tests", 2: "layers", 3: "step", 4: "commands", 5: "resume"}
CAPS = {1: 100, 2: 80, 3: 80, 4: 210, 5: 100}
"""Seconds of each part."""
_TOY_CAP = 600  # seconds of each part at toy size, where all share few CPU cores: none ends for want of time
PHASES = ((1, 5), (3,), (2,), (4,))
"""Parts that run at the same time; those that measure times run alone, when the city is made."""
_LEFT_TO_OTHERS = 4  # CPUs that the making of the city leaves


@dataclass
class Part:
    """A part's process.

    Attributes:
        status: "running", "finished", "failed" or "out of time".
        shown: answers that were printed.
    """

    number: int
    answers: Answers
    process: subprocess.Popen
    cap: float
    begin: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    status: str = "running"
    shown: int = 0

    def look(self) -> None:
        """Shows new answers; ends the process where its time is up."""
        code = self.process.poll()
        if code is None and time.monotonic() - self.begin > self.cap:
            end(self.process)
            self.status = "out of time"
        elif code is not None:
            self.status = "finished" if code == 0 else "failed"
        self.seconds = time.monotonic() - self.begin
        found = self.answers.read()
        for answer in found[self.shown :]:
            print(answer.line(), flush=True)
        self.shown = len(found)

    def entry(self) -> dict[str, Any]:
        """As it stands in gpu_check.json."""
        found = self.answers.read()
        return {"status": self.status, "seconds": round(self.seconds, 1), "answers": [vars(answer) for answer in found]}


class Check:
    """All of it: parts, and the city in the background.

    Args:
        folder: for results; what is there of an earlier run is removed, except the city.
        device, toy: "cpu" and toy sizes in tests.
    """

    def __init__(self, folder: str, parts: list[int], device: str, toy: bool) -> None:
        self.folder, self.numbers, self.device, self.toy = folder, parts, device, toy
        self.parts: list[Part] = []
        self.city: subprocess.Popen | None = None
        self.data = os.path.join(folder, "data")

    def run(self) -> int:
        """Runs the parts; the exit status."""
        os.makedirs(self.data, exist_ok=True)
        for name in os.listdir(self.folder):
            if name.startswith("part-") or name == "gpu_check.json":
                os.remove(os.path.join(self.folder, name))
        shutil.rmtree(os.path.join(self.folder, "runs"), ignore_errors=True)
        try:
            if 4 in self.numbers and not os.path.exists(os.path.join(self.data, READY)):
                self.make_city()
            for phase in [tuple(MODULES)] if self.toy else PHASES:
                self.run_phase([number for number in phase if number in self.numbers])
        finally:
            for process in [self.city, *(part.process for part in self.parts)]:
                if process is not None and process.poll() is None:
                    end(process)
            self.write()
        print(report(self.entries()))
        wrong = self.problems()
        print(
            f"\n{os.path.join(self.folder, 'gpu_check.json')}: " + ("; ".join(wrong) if wrong else "nothing is wrong")
        )
        return 1 if wrong else 0

    def run_phase(self, numbers: list[int]) -> None:
        """Some parts at the same time."""
        running = [self.start(number) for number in numbers]
        self.parts += running
        while any(part.status == "running" for part in running):
            time.sleep(0.2)
            for part in running:
                if part.status == "running":
                    part.look()
                    if part.shown or part.status != "running":
                        self.write()
        for part in running:
            print(f"{part.number} | {part.status} after {part.seconds:.0f} s", flush=True)

    def start(self, number: int) -> Part:
        """Starts a part; its output goes to a log."""
        cap = _TOY_CAP if self.toy else CAPS[number]
        words = ["--folder", self.folder, "--device", self.device, "--seconds", str(cap)]
        command = [
            sys.executable,
            "-m",
            f"benchmarks.gpu_check.{MODULES[number]}",
            *words,
            *(["--toy"] if self.toy else []),
        ]
        return Part(number, Answers(self.folder, number), self.spawn(command, f"part-{number}.log"), cap)

    def make_city(self) -> None:
        """In the background, at low priority."""
        workers = 1 if self.toy else max(1, (os.cpu_count() or 1) - _LEFT_TO_OTHERS)
        command = ["nice", sys.executable, "-m", "benchmarks.gpu_check.city", self.data, str(workers)]
        self.city = self.spawn([*command, *(["toy"] if self.toy else [])], "part-city.log")

    def spawn(self, command: list[str], log: str) -> subprocess.Popen:
        """A process group of its own, so that it can be ended with all that it started."""
        with open(os.path.join(self.folder, log), "a") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    def entries(self) -> dict[str, Any]:
        """The parts by number."""
        return {str(part.number): part.entry() for part in sorted(self.parts, key=lambda part: part.number)}

    def problems(self) -> list[str]:
        """What is wrong, in words."""
        found = []
        for number, entry in self.entries().items():
            if entry["status"] != "finished":
                found.append(f"part {number} is not finished ({entry['status']}, see part-{number}.log)")
            found += [
                f"part {number}, {answer['what']}: {answer['wrong']}" for answer in entry["answers"] if answer["wrong"]
            ]
        return found

    def write(self) -> None:
        """gpu_check.json as far as it is known."""
        write_report(os.path.join(self.folder, "gpu_check.json"), self.entries(), self.problems())


def end(process: subprocess.Popen) -> None:
    """Ends a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> int:
    """Parses arguments; without a GPU one line says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", type=int, choices=MODULES, default=list(MODULES))
    parser.add_argument("--folder", default="runs/gpu_check", help="for results, logs and the city")
    parser.add_argument("--toy", action="store_true", help="on the CPU at toy size: tries the check itself")
    arguments = parser.parse_args()
    import torch

    if not arguments.toy and not torch.cuda.is_available():
        print("gpu-check: there is no GPU that PyTorch can use on this machine: nothing is checked")
        return 0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    device = "cpu" if arguments.toy else "cuda"
    return Check(os.path.abspath(arguments.folder), sorted(set(arguments.parts)), device, arguments.toy).run()


if __name__ == "__main__":
    sys.exit(main())
