"""Preparation, training, E-step and evaluation by the processes that a launcher started, one after the other.

torchrun --nproc_per_node 2 -m tests.all_steps RUN OVERRIDES
"""

import importlib
import sys

from core.running.runtime import run_main
from tests.entry import ASSOP2P, CONFIGS, ESTEP, PRESEG, PRETRAIN


def main() -> None:
    run, words = sys.argv[1], sys.argv[2:]
    best = ["--weight-path", f"{run}/checkpoints/max-iou-vox-val.pt"]
    steps = {
        "prepare_sparse_label": [PRESEG],
        "prepare_nusc_superpixel": [f"{CONFIGS}/default.yaml"],
        PRETRAIN: [ASSOP2P, "--run-dir", run],
        ESTEP: [f"{CONFIGS}/estep/it1.yaml", "--run-dir", run, *best],
        "eval_miou": [ASSOP2P, *best],
    }
    for script, arguments in steps.items():
        sys.argv = [f"{script}.py", *arguments, *words]
        importlib.import_module(script).main()


if __name__ == "__main__":
    run_main(main)
