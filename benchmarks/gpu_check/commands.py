"""Part 4: the real commands on the city: training with its loader, E-step, evaluation."""

import json
import math
import os
import subprocess
import sys
import time

from benchmarks.gpu_check.answers import Answers, Task, run_part
from benchmarks.gpu_check.city import CONFIGS, ROOT, City

WARM_UP, MARKS, MORE = 20, [50, 100, 200], 4
TOY_WARM_UP, TOY_MARKS = 2, [1, 2, 3]
_GROWTH = 1.1  # memory in tensors at the last mark, against the first
_ASSOP2P, _ESTEP = f"{CONFIGS}/pretrain/assop2p.yaml", f"{CONFIGS}/estep/it1.yaml"
PRECISIONS = {
    "bf16": ["--amp_enabled", "true", "--amp_dtype", "bfloat16"],
    "tf32": ["--amp_enabled", "false", "--train.tf32", "true"],
}


class Commands:
    """Runs the commands one after the other, each within the time that is left."""

    def __init__(self, task: Task, answers: Answers) -> None:
        self.task, self.answers, self.begin = task, answers, time.monotonic()
        self.city = City(os.path.join(task.folder, "data"), task.toy, os.cpu_count() or 1)

    def left(self) -> float:
        """Seconds until the cap."""
        return self.task.seconds - (time.monotonic() - self.begin)

    def wait_for_city(self) -> None:
        """It is made in the background meanwhile."""
        begin = time.monotonic()
        while not self.city.ready:
            if self.city.failed:
                raise RuntimeError(f"the city could not be made: see {self.city.place('make.log')}")
            if self.left() < 0:
                raise TimeoutError("the city is not ready")
            time.sleep(0.2)
        self.answers.add("city", {"training frames": self.city.frames(), "waited s": round(time.monotonic() - begin)})

    def run(self, label: str, script: str, words: list[str]) -> None:
        """One watched command; a failure is an answer."""
        warm_up, marks = (TOY_WARM_UP, TOY_MARKS) if self.task.toy else (WARM_UP, MARKS)
        told = {"folder": self.task.folder, "part": 4, "label": label, "warm_up": warm_up, "marks": marks}
        command = [sys.executable, "-m", "benchmarks.gpu_check.watched", json.dumps(told), script, *words]
        environment = dict(os.environ)
        if self.task.device == "cpu":
            environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        log = os.path.join(self.task.folder, "part-4.log")
        with open(log, "a") as output, self.answers.trying(label):
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                timeout=max(1, self.left()),
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"status {done.returncode}: see {log}")

    def train(self, precision: str) -> str:
        """Training of one epoch, long enough for all marks; returns its checkpoint."""
        run = os.path.join(self.task.folder, "runs", precision)
        label = f"training {precision}"
        words = [_ASSOP2P, "--run-dir", run, *self.city.words("index_repeated"), "--num_epochs", "1"]
        self.run(label, "train_lc_sparse_assop2p_nusc", [*words, *self.workers(), *PRECISIONS[precision]])
        self.check_memory(label)
        return os.path.join(run, "checkpoints", "max-iou-vox-val.pt")

    def workers(self) -> list[str]:
        """Loader processes: a CPU for each but four."""
        return [] if self.task.toy else ["--workers_per_gpu", str(max(1, (os.cpu_count() or 1) - 4))]

    def check_memory(self, label: str) -> None:
        """Whether memory in tensors grew from the first mark to the last."""
        marks = [answer for answer in self.answers.read() if answer.what.startswith(f"{label}, step")]
        found = [answer.values["allocated GiB"] for answer in marks if "allocated GiB" in answer.values]
        expected = len(TOY_MARKS if self.task.toy else MARKS)
        if len(marks) < expected:
            self.answers.add(
                f"{label}, steps", {"marks": len(marks), "of": expected}, "training was not measured to its end"
            )
        if len(found) > 1:
            grew = found[-1] > _GROWTH * found[0]
            wrong = f"memory in tensors grew from {found[0]} to {found[-1]} GiB" if grew else ""
            self.answers.add(f"{label}, memory", {"allocated GiB": " ".join(map(str, found))}, wrong)

    def infer(self, precision: str, checkpoint: str) -> None:
        """E-step and evaluation of the training frames, each once."""
        if not os.path.exists(checkpoint):
            self.answers.add(f"inference {precision}", {}, f"{checkpoint} is missing")
            return
        run = os.path.join(self.task.folder, "runs", precision)
        words = [
            "--run-dir",
            run,
            "--weight-path",
            checkpoint,
            *self.city.words(),
            *self.workers(),
            *PRECISIONS[precision],
        ]
        self.run(f"E-step {precision}", "train_lc_estep_nusc", [_ESTEP, *words])
        self.run(f"evaluation {precision}", "eval_miou", [_ASSOP2P, "--split", "train", *words])


def main(task: Task, answers: Answers) -> None:
    """Both precisions: training first, then inference."""
    commands = Commands(task, answers)
    commands.wait_for_city()
    steps = TOY_WARM_UP + TOY_MARKS[-1] + 1 if task.toy else WARM_UP + MARKS[-1] + MORE
    frames = commands.city.frames()
    commands.city.repeat_frames(math.ceil(steps * (1 if task.toy else 4) / frames), "index_repeated")
    precisions = ["tf32"] if task.toy else list(PRECISIONS)
    checkpoints = {precision: commands.train(precision) for precision in precisions}
    for precision, checkpoint in checkpoints.items():
        commands.infer(precision, checkpoint)


if __name__ == "__main__":
    run_part(4, main)
