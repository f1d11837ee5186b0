"""Kills the preparation of labels and an E-step at random moments until they are done, and compares the files with
those of runs that nobody killed; files that were whole must not be made again.

    python -m tests.kill_preparation --kills 20
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import core.label_files.archive
import core.label_files.files
import core.label_files.meta
from tests.entry import ASSOP2P, CONFIGS, ESTEP, PRESEG, PRETRAIN, Project, contents
from tests.forked import Command, before
from tests.kill_training import make_project


def report_files(report):
    """Says when a file is begun; slowly, so that half of the kills come while it is written."""

    def begun():
        report("file")
        time.sleep(0.01)

    before(core.label_files.archive, "write_atomic", begun)
    before(core.label_files.files, "write_atomic", begun)
    before(core.label_files.meta, "write_json", begun)


def steps(project: Project, folder: Path, weights: str) -> dict:
    """{name: (script, words, directory that it fills, that directory of a run that was not killed)}."""
    own = Project(project.root, project.index, str(folder / "weak"), str(folder / "seeds"))
    estep = [f"{CONFIGS}/estep/it1.yaml", "--weight-path", weights, *project.words(), "--run-dir"]
    return {
        "weak labels": ("prepare_sparse_label", [PRESEG, *own.words()], own.weak, project.weak),
        "superpixels": ("prepare_nusc_superpixel", [f"{CONFIGS}/default.yaml", *own.words()], own.seeds, project.seeds),
        "E-step": (ESTEP, [*estep, folder / "run"], folder / "run/pseudo_labels_0", folder / "whole/pseudo_labels_0"),
    }


def times(directory) -> dict[str, int]:
    """When each finished label file was written."""
    names = os.listdir(directory) if os.path.isdir(directory) else []
    labels = [name for name in names if name.endswith((".npz", ".png")) and not name.startswith(".")]
    return {name: os.stat(os.path.join(directory, name)).st_mtime_ns for name in labels}


def kill_until_done(script: str, words: list, directory, kills: int, rng: random.Random, log: str) -> int:
    """Kills a command so many times, or until it is done; returns how often."""
    done = 0
    while done < kills:
        before = times(directory)
        command = Command(script, words, 1, report_files, log)
        command.wait_for("file", rng.randint(1, 3))
        time.sleep(rng.uniform(0, 0.02))
        killed = command.kill() != [0]
        after = times(directory)
        assert before.items() <= after.items(), f"{directory}: a whole file was made again"
        if not killed:
            break
        done += 1
    statuses = Command(script, words, 1, lambda _: None, log).statuses()
    assert statuses == [0], f"{statuses}: see {log}"
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project", nargs=4, metavar="DIR", help="data root, index, weak labels, superpixels")
    parser.add_argument("--weights", help="checkpoint for the E-step")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    killed: Counter = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = str(folder / "log")
        project = Project(*arguments.project) if arguments.project else make_project(folder / "project")
        weights = arguments.weights
        if weights is None:
            words = [ASSOP2P, "--run-dir", folder / "trained", *project.words()]
            assert Command(PRETRAIN, words, 1, lambda _: None, log).statuses() == [0]
            weights = str(folder / "trained/checkpoints/max-iou-vox-val.pt")
        script, words, *_ = steps(project, folder, weights)["E-step"]
        assert Command(script, [*words[:-1], folder / "whole"], 1, lambda _: None, log).statuses() == [0]
        rounds = 0
        while sum(killed.values()) < arguments.kills:
            for k, (step, (script, words, directory, whole)) in enumerate(
                steps(project, folder / f"{rounds}", weights).items()
            ):
                whole = str(whole).replace(str(folder / f"{rounds}"), str(folder))
                kills = min(4, (arguments.kills - sum(killed.values())) // (3 - k))
                killed[step] += kill_until_done(script, words, directory, kills, rng, log)
                skip = ["meta.json"]  # it names the command
                assert contents(directory, skip) == contents(whole, skip), f"{step}: other files"
            rounds += 1
    moments = ", ".join(f"{count} {step}" for step, count in sorted(killed.items()))
    print(f"{sum(killed.values())} kills ({moments}): the same bytes, and no whole file was made again.")


if __name__ == "__main__":
    sys.exit(main())
