"""Runs the steps with the outermost values of each configuration key: each ends well, or with one line.

python -m tests.edge_keys [--key dataset.voxel_size ...]
"""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from unittest.mock import patch

from core.running.config_keys import KEYS
from core.running.runtime import run_main
from core.synthetic.generate import generate_city
from tests.config_values import edge_values
from tests.conftest import CITY
from tests.entry import ASSOP2P, BEST, CONFIGS, ESTEP, PRESEG, PRETRAIN, Project, logged, prepare, run_script

SKIPPED = {
    "model.cr": "more memory than machines have",
    "dataset.image_size": "more memory than machines have",
    "dataset.image_crop_rate": "more memory than machines have",
    "num_epochs": "more time than anybody has",
}
"""Keys whose highest value is not run, and why."""
OTHERS = ("dataset.name", "dataset.test_frames", "dataset.submission", "dataset.columns", "dataset.classes")
OTHERS += ("dataset.splits", "dataset.time_tolerance")


def steps_of(key, project, run, best):
    """(script, words) of the steps that the key governs."""
    weak = ("prepare_sparse_label", PRESEG)
    seeds = ("prepare_nusc_superpixel", f"{CONFIGS}/default.yaml")
    training = (PRETRAIN, ASSOP2P, "--run-dir", run)
    estep = (ESTEP, f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, "--weight-path", best)
    evaluation = ("eval_miou", ASSOP2P, "--run-dir", run, "--weight-path", best)
    labels = list(KEYS)[list(KEYS).index("dataset.num_sweeps") : list(KEYS).index("dataset.test_frames")]
    if key in labels:
        return [weak]
    if key.startswith("dataset.seeds"):
        return [seeds]
    return [estep] if key.startswith("estep") else [training, estep, evaluation]


def outcome(script, words):
    """ "done", the error's line, or what went wrong."""
    main = importlib.import_module(script).main
    with logged() as lines, patch.object(sys, "argv", [f"{script}.py", *map(str, words)]):
        try:
            run_main(main)
        except SystemExit as stop:
            errors = [line for line in lines if line.startswith("ERROR")]
            if stop.code == 2 and len(errors) == 1 and "\n" not in errors[0]:
                return f"refused: {errors[0].removeprefix('ERROR ')}"
            return "FAILED: " + " / ".join(errors[-1].splitlines()[::-1][:2] if errors else lines[-1:])
    return "done"


def main():
    """Prints a line for each key, value and step; the exit status tells whether any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", action="append", choices=list(KEYS))
    keys = parser.parse_args().key or [key for key in KEYS if not key.startswith(OTHERS)]
    folder = tempfile.mkdtemp(prefix="edge-keys-")
    city = f"{folder}/city"
    generate_city(city, CITY)
    project = Project(city, f"{folder}/index", f"{folder}/weak", f"{folder}/seeds")
    prepare(project)
    run_script(PRETRAIN, ASSOP2P, "--run-dir", f"{folder}/run", *project.words())
    failed = 0
    for key in keys:
        values = edge_values(KEYS[key])
        for value in values[:1] if key in SKIPPED else values:
            run = f"{folder}/edge"
            for script, *words in steps_of(key, project, run, f"{folder}/run/{BEST}"):
                own = project
                if script.startswith("prepare"):
                    own = replace(project, weak=f"{folder}/new_weak", seeds=f"{folder}/new_seeds")
                found = outcome(script, [*words, *own.words(**{key.replace(".", "__"): value})])
                failed += found.startswith("FAILED")
                print(f"{key} {value} {script}: {found}", flush=True)
            for name in ("edge", "new_weak", "new_seeds"):
                shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
    shutil.rmtree(folder)
    print(f"{failed} failed")
    os._exit(failed > 0)


if __name__ == "__main__":
    main()
