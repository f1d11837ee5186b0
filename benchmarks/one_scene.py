"""All steps and both baselines on half of a PandaSet scene: frames 0 to 23 train, frames 28 to 37 are scored.

    python3 -m benchmarks.one_scene --source PANDASET --run-dir runs/pandaset [--num_epochs 8 ...]

PANDASET holds scene 002. Imports it, makes weak labels and superpixels, runs the five steps, trains the sparse baseline
and full supervision, and prints a table; what is there already stays. The sizes are for two CPU cores (SIZES); any key
can be overridden. One scene, and frames of the same street to score on: the numbers say that everything works on real
data, and little of how good the method is.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time

from benchmarks.common import machine
from core.errors import UserError
from core.running.arguments import split_overrides
from core.scores.results import read_rows, stage_table

SIZES = {
    "dataset.image_size": "[54, 96]",
    "dataset.image_normalize": "true",
    "dataset.seeds.num_superpixels": "256",
    "dataset.seeds.num_levels": "3",
    "dataset.voxel_size": "0.4",
    "model.cr": "0.25",
    "model.proj_channel": "64",
    "model.imagenet_pretrain": "null",
    "num_epochs": "8",
    "train.validate_every": "8",
    "batch_size": "1",
    "workers_per_gpu": "0",
    "optimizer.lr": "0.02",
    "scheduler.warmup_iterations": "20",
}
CONFIGS = "configs/recordings"
PRETRAIN, MSTEP = "train_lc_sparse_assop2p_nusc.py", "train_lc_sparse_assop2p_mstep_nusc.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", required=True, help="folder of PandaSet's scenes")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--with", dest="overlays", action="append", default=[])
    own, overrides = split_overrides(parser, sys.argv[1:])
    arguments = parser.parse_args(own)
    run = arguments.run_dir
    data = {
        "dataset.root": f"{run}/data",
        "dataset.sparse_label_path": f"{run}/weak_label",
        "dataset.superpixel": f"{run}/seeds",
    }
    keys = [word for key, value in {**data, **SIZES}.items() for word in (f"--{key}", value)]
    overlays = [word for path in [f"{CONFIGS}/pandaset.yaml", *arguments.overlays] for word in ("--with", path)]
    words = [*overlays, *keys, *overrides]

    call(["import_recording.py", arguments.source, f"{run}/data", "--from", "pandaset"])
    call(["prepare_sparse_label.py", f"{CONFIGS}/pretrain/preseg.yaml", *words])
    call(["prepare_nusc_superpixel.py", f"{CONFIGS}/default.yaml", *words])
    call([PRETRAIN, f"{CONFIGS}/pretrain/assop2p.yaml", "--run-dir", run, *words])
    for number, (estep, mstep) in enumerate((("it1", "assop2p"), ("it2", "assop2p_it2"))):
        script = f"train_lc_estep_nusc{'_2' * number}.py"
        best = f"{run}/checkpoints{'_mstep_0' * number}/max-iou-vox-val.pt"
        call([script, f"{CONFIGS}/estep/{estep}.yaml", "--run-dir", run, "--weight-path", best, *words])
        call([MSTEP, f"{CONFIGS}/mstep/{mstep}.yaml", "--run-dir", run, *words])
    for name in ("sparse_baseline", "full"):
        call([PRETRAIN, f"{CONFIGS}/pretrain/{name}.yaml", "--run-dir", f"{run}/{name}", *words])
    score(run, words)


def score(run: str, words: list[str]) -> None:
    """Scores all checkpoints and prints the table."""
    folders = {f"{run}/checkpoints{step}": "assop2p" for step in ("", "_mstep_0", "_mstep_1")}
    folders |= {f"{run}/{name}/checkpoints": name for name in ("sparse_baseline", "full")}
    for folder, name in folders.items():
        weights = ["--weight-path", f"{folder}/max-iou-vox-val.pt", "--run-dir", run]
        call(["eval_miou.py", f"{CONFIGS}/pretrain/{name}.yaml", *weights, *words])
    print(f"\n{machine()}\n{stage_table(read_rows(os.path.join(run, 'results.json')))}")


def call(words: list[str]) -> None:
    """Runs a script and prints how long it took."""
    begin = time.perf_counter()
    print(f"\n$ python3 {shlex.join(words[:2])} ...", flush=True)
    if subprocess.run([sys.executable, *words], check=False).returncode:
        raise UserError(f"{words[0]} failed; the reason stands above")
    print(f"{time.perf_counter() - begin:.0f} s: {words[0]} {words[1]}", flush=True)


if __name__ == "__main__":
    main()
