"""Kills training at random moments until it is done, and compares all that it leaves with a run that nobody killed.

python -m tests.kill_training --kills 20 --ranks 1
python -m tests.kill_training --kills 20 --ranks 2
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import core.training.callbacks
import core.training.resume
import core.training.trainer
from core.errors import RESUME_STATUS
from core.synthetic.generate import generate_city
from core.training.checkpoint import read_checkpoint
from tests.conftest import CITY
from tests.entry import ASSOP2P, CONFIGS, PRESEG, PRETRAIN, Project, first_difference
from tests.forked import Command, before

CHANGES = {"train__checkpoint_every_steps": 3, "eval_batch_size": 1}
KINDS = ("start", "step", "step", "validation", "checkpoint", "checkpoint")
"""What training is doing when it is killed: events of the same names, and a random while after them."""


def report_events(report):
    """Says when a step, a validation and the writing of a checkpoint begin."""
    report("start")
    before(core.training.trainer.SegmentationTrainer, "_run_step", lambda: report("step"))
    before(core.training.trainer.SegmentationTrainer, "evaluation_step", lambda: report("validation"))
    before(core.training.resume, "save_checkpoint", lambda: report("checkpoint"))
    before(core.training.callbacks, "save_checkpoint", lambda: report("checkpoint"))


def make_project(folder: Path) -> Project:
    """A tiny city with its labels."""
    project = Project(*(str(folder / name) for name in ("city", "index", "weak", "seeds")))
    generate_city(project.root, CITY)
    for script, config in (("prepare_sparse_label", PRESEG), ("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml")):
        words = [config, *project.words()]
        assert Command(script, words, 1, lambda _: None, str(folder / "prepare.log")).statuses() == [0]
    return project


class Trial:
    """Trainings of one project, killed and not."""

    def __init__(self, project: Project, folder: Path, ranks: int, seed: int, **changes):
        self.project, self.folder, self.ranks, self.rng = project, folder, ranks, random.Random(seed)
        self.changes = {**CHANGES, **changes}
        self.killed: Counter = Counter()
        self.requests = 0

    def start(self, run: str) -> Command:
        words = [ASSOP2P, "--run-dir", self.folder / run, *self.project.words(**self.changes)]
        return Command(PRETRAIN, words, self.ranks, report_events, str(self.folder / f"{run}.log"))

    def kill_once(self, run: str) -> bool:
        """Kills a training at a random moment; False where it was done before."""
        command, kind = self.start(run), self.rng.choice(KINDS)
        reached = command.wait_for(kind, 1 if kind == "start" else self.rng.randint(1, 3))
        time.sleep(self.rng.uniform(0, {"start": 1.5, "checkpoint": 0.02}.get(kind, 0.3)))
        killed = -signal.SIGKILL in command.kill(self.rng.randrange(self.ranks)) and reached
        self.killed[kind] += killed
        return killed

    def request_once(self, run: str, number: int) -> None:
        """Asks one process of a training to stop, by a signal: all stop, with a checkpoint of this very step."""
        command = self.start(run)
        assert command.wait_for(self.rng.choice(["step", "validation"]), 1)
        time.sleep(self.rng.uniform(0, 0.2))
        os.kill(command.pids[self.rng.randrange(self.ranks)], number)
        self.check(command, run, RESUME_STATUS)
        assert (self.folder / f"{run}.log").read_text().count("and the same command goes on") == self.ranks
        self.requests += 1

    def check(self, command: Command, run: str, status: int = 0) -> None:
        """Waits until all processes have ended with the status."""
        statuses = command.statuses()
        assert statuses == [status] * self.ranks, f"{statuses}: see {self.folder / run}.log"

    def compare(self, run: str, whole: str = "whole") -> None:
        """All checkpoints and scalars of two runs, bit for bit."""
        folders = [self.folder / name / "checkpoints" for name in (run, whole)]
        names = [sorted(os.listdir(folder)) for folder in folders]
        assert names[0] == names[1], names
        for name in names[0]:
            difference = first_difference(*(read_checkpoint(str(folder / name)) for folder in folders))
            assert difference is None, f"{run}/checkpoints/{name}: {difference} differs"
        scalars = [(self.folder / name / "scalars.jsonl").read_bytes() for name in (run, whole)]
        assert scalars[0] == scalars[1], f"{run}/scalars.jsonl differs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2, help="so many of the trainings are asked to stop, too")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", nargs=4, metavar="DIR", help="data root, index, weak labels, superpixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project = Project(*arguments.project) if arguments.project else make_project(folder)
        changes = {"num_epochs": arguments.epochs, "workers_per_gpu": arguments.workers}
        trial = Trial(project, folder, arguments.ranks, arguments.seed, **changes)
        whole = trial.start("whole")  # meanwhile the others are killed
        runs = 0
        while sum(trial.killed.values()) < arguments.kills:
            run = f"killed-{runs}"
            if trial.requests < arguments.requests:
                trial.request_once(run, (signal.SIGTERM, signal.SIGUSR1)[trial.requests % 2])
            while sum(trial.killed.values()) < arguments.kills and trial.kill_once(run):
                pass
            trial.check(trial.start(run), run)
            if whole is not None:
                trial.check(whole, "whole")
                whole = None
            trial.compare(run)
            runs += 1
        moments = ", ".join(f"{count} {kind}" for kind, count in sorted(trial.killed.items()))
        kills = f"{sum(trial.killed.values())} kills ({moments}) and {trial.requests} requests to stop"
        print(f"{kills} of {arguments.ranks} process(es) in {runs} trainings:")
        print("checkpoints and scalars are those of the training that was not killed, bit for bit.")


if __name__ == "__main__":
    sys.exit(main())
