"""What a click is worth, by the order in which components are asked for: mIoU against clicks of a simulated annotator.

    python3 -m benchmarks.annotation --data city --run-dir runs/annotation
    python3 -m benchmarks.annotation --data pandaset --source PANDASET --run-dir runs/annotation

For each window, seed and order: the first clicks of the order are put into a journal, label_from_clicks makes weak
labels of them, and a network (LiDAR alone) is trained on these from scratch. Orders that need suggestions take their
first clicks in the order FIRST; then what predict.py --uncertainty says with the network of the clicks so far decides
on the next ones. All trainings of a data set have the same number of iterations. `all` is all components; `page` the
same, labelled through the page's interface (benchmarks/annotator.py). What is there already stays: after an
interruption run it again; commands with other --windows, --seeds and --orders may share a run directory. The table
(annotation.md, annotation.json) and the curves (annotation_curve.png) are of all that has finished there.
"""

import argparse
import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torchpack.utils.config import Config

from benchmarks.accuracy import check_settings, flat, run_script
from benchmarks.annotation_report import RESULT, write_report
from benchmarks.annotator import SIMULATED, answer_all, serving, true_answers
from core import builder
from core.annotate.queue import ORDERS, Order, Suggestions, ordered, read_suggestions
from core.annotate.run import read_queue
from core.errors import run_alone
from core.figures.training import read_scalars
from core.labeling.annotation.journal import Answer, Key, append, label_action, read_journal
from core.labeling.over_data_set.label_clicks import check_proposals, label_from_clicks
from core.running.arguments import split_overrides
from core.running.config import load_config
from core.running.files import make_folder, write_json
from core.running.runtime import Run, prepare_device, seed_everything

TRIED = {
    **ORDERS,
    "frames": Order(lambda size, _: size, lambda window, _: window),
    "apart": Order(lambda _, found: found.apart, suggested=True),
    "uncertain_frames": Order(lambda _, found: found.doubt, lambda window, _: window, suggested=True),
    "uncertain_classes": Order(lambda _, found: found.doubt, lambda _, found: found.label, suggested=True),
    "classes": Order(lambda *_: 0, lambda _, found: found.label, suggested=True),
}
"""The page's orders, and others that were tried: the largest of each window in turn; the most points of other classes
than the suggested one; the most uncertain of each window, or of each suggested class, in turn; any of each class."""
FIRST = "random"
"""Order of the first clicks where there is no network yet."""
ALL, PAGE = "all", "page"
SEEDS = (1588147245, 1, 2)


@dataclass(frozen=True)
class Data:
    """A data set of the benchmark.

    Attributes:
        overlays: laid over configs/recordings, before benchmarks/configs/annotation.yaml.
        make: command that makes its root.
        keys: sizes of the training.
    """

    overlays: tuple[str, ...]
    make: tuple[str, ...]
    keys: Mapping[str, str]


DATA = {
    "city": Data(
        ("configs/demo/recordings.yaml",),
        ("prepare_synthetic_nusc.py", "--format", "recordings", "--root", "{root}"),
        {"dataset.voxel_size": "0.5", "num_epochs": "2"},  # 48 frames
    ),
    "pandaset": Data(
        ("configs/recordings/pandaset.yaml",),
        ("import_recording.py", "{source}", "{root}", "--from", "pandaset"),
        {"dataset.voxel_size": "1.0", "num_epochs": "4"},  # 24 frames
    ),
}


class Loop:
    """Label, train, predict, order, label: with the proposals of one window.

    Args:
        folder: where all of it goes; config: with the window's proposals.
        seed: of the annotator, the random order and the training.
        shares: of all clicks, ascending, after which a network is trained.
    """

    def __init__(self, folder: str, config: Config, seed: int, shares: Sequence[float]) -> None:
        self.folder, self.config, self.seed, self.shares = folder, config, seed, shares
        config.train.seed = seed
        self.reader = builder.make_reader(config, "train")
        self.parameters = builder.weak_label_parameters(config)
        self.identity = check_proposals(self.reader, config.proposals.path, self.parameters)
        smallest = min(config.dataset.small_component_sizes)
        self.windows, _ = read_queue(self.reader, config.proposals.path, self.identity, smallest)
        self.truth: dict[Key, Answer] = {}

    def run(self, order: str) -> None:
        """All trainings of an order; those that are there already stay."""
        if order in (ALL, PAGE):
            self.train(order, 1.0)
        else:
            for share in self.shares:
                if share < 1:
                    self.train(order, share)

    def train(self, order: str, share: float) -> str:
        """Labels a share of the clicks in an order, and trains on them; the folder of the training."""
        if order in TRIED and TRIED[order].suggested and share == self.shares[0]:
            order = FIRST
        run = os.path.join(self.folder, order, f"{share:g}")
        if os.path.exists(os.path.join(run, RESULT)):
            return run
        begin = time.process_time()
        config = self._config(run)
        make_folder(run)
        if order == PAGE or not os.path.exists(config.proposals.journal):
            self._label(order, share, config)
        directory = config.dataset.sparse_label_path
        places = directory, config.proposals.path, config.proposals.journal
        labels = label_from_clicks(self.reader, *places, self.parameters, self.seed)
        scores = self._train(run, config)
        shutil.rmtree(directory)
        result = {name: labels["human"][name] for name in ("components", "clicks")}
        result |= {name: labels[name] for name in ("sparse", "propagated", "negative")}
        result |= {"share": share, "seconds": time.process_time() - begin, **scores}
        write_json(os.path.join(run, RESULT), result)
        return run

    def _config(self, run: str) -> Config:
        config = Config()
        config.update(self.config.dict())
        config.proposals.journal = f"{run}/clicks.jsonl"
        config.dataset.sparse_label_path = f"{run}/weak_label"
        return config

    def _label(self, order: str, share: float, config: Config) -> None:
        """Fills the journal of a training; the page's annotator resumes."""
        self.truth = self.truth or true_answers(config)
        if order == PAGE:
            with serving(config) as client:
                answer_all(client, self.truth)
            return
        answers = list(self._answers(order, share).values())
        append(config.proposals.journal, [label_action(answer, SIMULATED, 0.0) for answer in answers])

    def _answers(self, order: str, share: float) -> dict[Key, Answer]:
        """The first answers in an order, so many that they take a share of all clicks."""
        clicks = share * sum(len(answer.points) for answer in self.truth.values())
        chosen: dict[Key, Answer] = {}
        suggestions = Suggestions()
        if order == ALL:
            return self.truth
        if TRIED[order].suggested:
            before = self.train(order, self.shares[self.shares.index(share) - 1])
            chosen = dict(read_journal(f"{before}/clicks.jsonl").answers)
            predictions = self._predict(before)
            suggestions = read_suggestions(predictions, self.windows, self.reader.classes.num_classes)
            shutil.rmtree(predictions)
        clicks -= sum(len(answer.points) for answer in chosen.values())
        for i, component in ordered(self.windows, TRIED[order], self.seed, suggestions):
            key = (self.windows[i].token, component)
            if clicks <= 0:
                break
            if key in self.truth and key not in chosen:
                chosen[key] = self.truth[key]
                clicks -= len(self.truth[key].points)
        return chosen

    def _train(self, run: str, config: Config) -> dict[str, float]:
        from core.steps import train

        self._step(config)
        train(Run(config, Namespace(weight_path=None), run, torch.device("cpu")))
        line = read_scalars(f"{run}/scalars.jsonl")["train"][-1]
        return {"miou": line["iou/vox/val"], "iterations": line["step"]}

    def _predict(self, run: str) -> str:
        from core.scores.predict import predict

        output = f"{run}/predictions"
        weights = f"{run}/checkpoints/max-iou-vox-val.pt"
        arguments = Namespace(weight_path=weights, output=output, split="train", format="label", uncertainty=True)
        config = self._config(run)
        self._step(config)
        predict(Run(config, arguments, None, torch.device("cpu")))
        return output

    def _step(self, config: Config) -> None:
        """What entry scripts do first."""
        seed_everything(self.seed, config.train.deterministic)
        prepare_device(torch.device("cpu"), config.train.tf32)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The benchmark's own arguments, and overrides of configuration keys."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", choices=DATA, default="city")
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--source", help="pandaset: folder of its scenes")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--orders", choices=[*TRIED, ALL, PAGE], nargs="+", default=[*TRIED, ALL, PAGE])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.15, 0.4], help="of all clicks, ascending")
    own, overrides = split_overrides(parser, argv)
    arguments = parser.parse_args(own)
    if arguments.data == "pandaset" and arguments.source is None:
        parser.error("--data pandaset needs --source, the folder of PandaSet's scenes")
    return arguments, overrides


def prepare(arguments: argparse.Namespace, overrides: Sequence[str]) -> dict[int, Config]:
    """Makes data and proposals; the configuration of each window."""
    data, run = DATA[arguments.data], os.path.join(arguments.run_dir, arguments.data)
    overlays = [*data.overlays, "benchmarks/configs/annotation.yaml"]
    root = f"{run}/data"
    make_folder(run)
    run_script([word.format(root=root, source=arguments.source) for word in data.make])
    found = {}
    for window in arguments.windows:
        keys = {**data.keys, "dataset.root": root, "dataset.index_path": f"{run}/index"}
        keys |= {"dataset.annotator": "clicks", "proposals.window": str(window)}
        keys |= {"proposals.path": f"{run}/window_{window}/proposals"}
        words = [*(word for key, value in keys.items() for word in (f"--{key}", value)), *overrides]
        files = [word for path in overlays for word in ("--with", path)]
        run_script(["prepare_sparse_label.py", "configs/recordings/pretrain/preseg.yaml", *files, *words])
        found[window] = load_config("configs/recordings/pretrain/sparse_baseline.yaml", overlays, words)
    return found


def main() -> None:
    arguments, overrides = parse(sys.argv[1:])
    run = os.path.join(arguments.run_dir, arguments.data)
    configs = prepare(arguments, overrides)
    for window, config in configs.items():
        check_settings(f"{run}/window_{window}/settings.json", flat(config.dict()))
    for seed in arguments.seeds:
        for window, config in configs.items():
            loop = Loop(f"{run}/window_{window}/seed_{seed}", load(config), seed, arguments.shares)
            for order in arguments.orders:
                loop.run(order)
                print(write_report(arguments.run_dir), flush=True)


def load(config: Config) -> Config:
    """A copy."""
    copy = Config()
    copy.update(config.dict())
    return copy


if __name__ == "__main__":
    run_alone(main)
