"""`make demo`: the whole method on a made-up city, by the very commands of the README; times, table and figures."""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from typing import Any

import torch
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.doctor import check_mpirun
from core.errors import UserError
from core.running.config import load_config
from core.running.runtime import run_main
from core.scores.results import STAGES, read_rows, stage_table
from core.synthetic.formats import format_names

STRONG = "configs/strong.yaml"
ROWS = {
    "weak labels alone": ("pretrain/sparse_baseline.yaml", "weak_labels_alone/checkpoints"),
    **{title: ("pretrain/assop2p.yaml", folder) for folder, title in STAGES.items()},
    "full supervision": ("pretrain/full.yaml", "full_supervision/checkpoints"),
}
"""Rows of the table: configuration, and folder of the checkpoints below the run directory."""


class Demo:
    """Runs commands one after the other and keeps their times.

    Args:
        dataset: which data set's format the city is written in.
        run_dir: where results go.
        processes: under dist-run.
        overrides: further configuration overrides for all commands.
    """

    def __init__(self, dataset: str, run_dir: str, processes: int, overrides: list[str]):
        self.dataset, self.run_dir, self.processes, self.overrides = dataset, run_dir, processes, overrides
        self.overlay = f"configs/demo/{dataset}.yaml"
        self.times: list[tuple[str, float]] = []

    def run(self) -> None:
        """The city, its labels, the five steps between weak labels alone and full supervision, evaluation, tables."""
        run, configs = self.run_dir, f"configs/{self.dataset}"
        self._call(
            "made-up city", f"prepare_synthetic_nusc.py --format {self.dataset} --root data/demo/{self.dataset}".split()
        )
        by_clicks = self._config().dataset.annotator == "clicks"
        name = "proposals" if by_clicks else "weak labels"
        self._step(name, f"prepare_sparse_label.py {configs}/pretrain/preseg.yaml")
        if by_clicks:
            command = f"label_from_clicks.py {configs}/pretrain/preseg.yaml --simulate"
            self._step("weak labels from clicks", command, distributed=False)
        self._step("superpixels", f"prepare_nusc_superpixel.py {configs}/default.yaml")
        pretrain, mstep = "train_lc_sparse_assop2p_nusc.py", "train_lc_sparse_assop2p_mstep_nusc.py"
        self._step(
            "weak labels alone", f"{pretrain} {configs}/pretrain/sparse_baseline.yaml --run-dir {run}/weak_labels_alone"
        )
        self._step("1. pretraining", f"{pretrain} {configs}/pretrain/assop2p.yaml --run-dir {run}")
        self._step(
            "2. E-step 1",
            f"train_lc_estep_nusc.py {configs}/estep/it1.yaml --run-dir {run} "
            f"--weight-path {run}/checkpoints/max-iou-vox-val.pt",
        )
        self._step("3. M-step 1", f"{mstep} {configs}/mstep/assop2p.yaml --run-dir {run}")
        self._step(
            "4. E-step 2",
            f"train_lc_estep_nusc_2.py {configs}/estep/it2.yaml --run-dir {run} "
            f"--weight-path {run}/checkpoints_mstep_0/max-iou-vox-val.pt",
        )
        self._step("5. M-step 2", f"{mstep} {configs}/mstep/assop2p_it2.yaml --run-dir {run}")
        self._step("full supervision", f"{pretrain} {configs}/pretrain/full.yaml --run-dir {run}/full_supervision")
        for title, (config, folder) in ROWS.items():
            last = f"--save-predictions {run}/predictions" if title == "iteration 2" else ""
            weights = f"{run}/{folder}/max-iou-vox-val.pt"
            self._step(f"evaluation, {title}", f"eval_miou.py {configs}/{config} --weight-path {weights} {last}")
        figures = f"-m core.figures {configs}/pretrain/assop2p.yaml --run-dir {run} --predictions {run}/predictions"
        self._step("figures", figures, distributed=False)
        print(self.report())

    def report(self) -> str:
        """The results as text."""
        table = stage_table({title: self._scores(folder) for title, (_, folder) in ROWS.items()})
        times = "\n".join(f"{name:<30}{seconds:>8.0f} s" for name, seconds in self.times)
        total = sum(seconds for _, seconds in self.times)
        places = [
            f"{name}: {self.run_dir}/{path}"
            for name, path in (("figures", "figures"), ("numbers", "results.json"), ("logs", "logging"))
        ]
        times += f"\n{'together':<30}{total:>8.0f} s"
        return "\n\n".join(["", table, self._label_shares(), times, "   ".join(places)])

    def _scores(self, folder: str) -> dict[str, Any]:
        """The row of results.json of a checkpoint folder, below the run directory."""
        path = os.path.join(self.run_dir, folder)
        return next(
            row
            for row in read_rows(os.path.join(os.path.dirname(path), "results.json"))
            if os.path.dirname(os.path.realpath(row["checkpoint"])) == os.path.realpath(path)
        )

    def _label_shares(self) -> str:
        with open(os.path.join(self._config().dataset.sparse_label_path, "meta.json"), encoding="utf-8") as file:
            s = json.load(file)["statistics"]
        sparse, propagated, negative = (100 * s[key] for key in ("sparse", "propagated", "negative"))
        accuracy = s["propagated_accuracy"]
        right = "" if accuracy is None else f"; propagated labels {100 * accuracy:.1f} % right"
        lines = [
            f"Label shares: sparse {sparse:.2f} % of all points, propagated {propagated:.1f} % and negative "
            f"{negative:.1f} % of the points in view{right}."
        ]
        if "human" in s:
            lines.append(f"Clicks: {s['human']['clicks']} on {s['human']['components']} components.")
        for k in (0, 1):
            with open(os.path.join(self.run_dir, f"pseudo_labels_{k}", "meta.json"), encoding="utf-8") as file:
                s = json.load(file)["statistics"]
            right = "" if s.get("accuracy") is None else f", {100 * s['accuracy']:.1f} % right"
            share = 100 * s["labelled"] / s["points"]
            lines.append(f"Pseudo-labels, round {k + 1}: {share:.1f} % of all points{right}.")
        return "\n".join(lines)

    def _config(self) -> Config:
        return load_config(f"configs/{self.dataset}/default.yaml", [STRONG, self.overlay], self.overrides)

    def _step(self, name: str, command: str, distributed: bool = True) -> None:
        """One command of the README, with STRONG and the demo's sizes laid over its own."""
        words = [*command.split(), "--with", STRONG, "--with", self.overlay, *self.overrides]
        self._call(name, words, self.processes if distributed else 0)

    def _call(self, name: str, words: list[str], processes: int = 0) -> None:
        launcher = ["torchpack", "dist-run", "-np", str(processes)] if processes else []
        command = [*launcher, "python3", *words]
        print(f"\n=== {name}\n$ {shlex.join(command)}", flush=True)
        begin = time.perf_counter()
        status = subprocess.run(command, check=False).returncode
        self.times.append((name, time.perf_counter() - begin))
        if status:
            raise UserError(
                f"demo: '{name}' stopped with status {status}; the reason stands above and in "
                f"{self.run_dir}/logging; `make demo` goes on where it stopped"
            )


def main() -> None:
    """Parses arguments, checks the machine, runs the demo."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--dataset", choices=format_names(), help="default: that of configs/default.yaml")
    parser.add_argument("--run-dir", help="default: runs/demo/DATASET")
    parser.add_argument("-np", "--processes", type=int, help="default: 2, or the number of GPUs if that is 1")
    arguments, overrides = parser.parse_known_args()
    dataset = arguments.dataset or load_config("configs/default.yaml").dataset.name
    # the commands of this environment, also when it is not activated
    os.environ["PATH"] = os.path.dirname(os.path.abspath(sys.executable)) + os.pathsep + os.environ.get("PATH", "")
    check_mpirun()
    gpus = torch.cuda.device_count()
    processes = arguments.processes or (min(2, gpus) if gpus else 2)
    logger.info(f"Demo on {torch.cuda.get_device_name() if gpus else 'the CPU'} with {processes} processes.")
    Demo(dataset, arguments.run_dir or f"runs/demo/{dataset}", processes, overrides).run()


if __name__ == "__main__":
    run_main(main)
