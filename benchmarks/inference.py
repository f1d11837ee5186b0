"""E-step and evaluation on a small made-up city: frames a second, and what a frame costs the main process.

    python3 -m benchmarks.inference --frames 24
    python3 -m benchmarks.inference --frames 8 --network demo

The network is one linear layer, which answers at once as a fast GPU does, so that what is left is reading, labelling,
counting and writing; or the demo's, untrained. Without loader processes all of a step is in one process ("frames/s");
with one, the main process's own time is what a GPU has to wait for. CPU time of one thread, so that other programs do
not count. Each step runs twice, from its start to its end; the second time counts.
"""

import argparse
import os
import shutil
import tempfile
import time
from typing import Any

import torch
from torchpack.utils.config import Config

from benchmarks.common import machine, table
from core import builder, steps
from core.labeling.over_data_set.jobs import WeakLabelJob
from core.labeling.over_data_set.prepare import prepare
from core.models.two_branch import Outputs
from core.running.config import load_config
from core.running.runtime import Run
from core.scores import scoring

CPU = torch.device("cpu")


class LinearLayer(torch.nn.Module):
    """Stands in for the network: a linear layer on the features of points."""

    def __init__(self, in_channel: int, num_classes: int):
        super().__init__()
        self.layer = torch.nn.Linear(in_channel, num_classes)

    def forward(self, feats: torch.Tensor, **_: Any) -> Outputs:
        logits = self.layer(feats)
        return Outputs(logits, logits, None, None, feats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--format", choices=("nuscenes", "semantic_kitti", "waymo"), default="nuscenes")
    parser.add_argument("--network", choices=("linear", "demo"), default="linear")
    parser.add_argument("--frames", type=int, default=40, help="of the training and of the validation split")
    parser.add_argument("--azimuth-steps", type=int, default=512, help="of a LiDAR turn")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        make_city(folder, arguments.format, arguments.frames, arguments.azimuth_steps)
        names = ("E-step", "evaluation")
        print(table([row(folder, arguments.format, step, arguments.network) for step in names]))


def make_city(folder: str, name: str, frames: int, azimuth_steps: int) -> None:
    """The city with weak labels of its training frames."""
    from core.synthetic.generate import City, generate_city

    shape = {"train_scenes": 1, "val_scenes": 1, "test_scenes": 0, "frames": frames, "azimuth_steps": azimuth_steps}
    image_size = (376, 1241) if name == "semantic_kitti" else (360, 640)
    city = City(format=name, image_size=image_size, seed=0, **shape)
    generate_city(os.path.join(folder, "city"), city, os.cpu_count() or 1)
    config = configuration(folder, name, "E-step", workers=0)
    reader = builder.make_reader(config, "train", sweeps=True)
    prepare(
        WeakLabelJob(reader, config.dataset.sparse_label_path, builder.weak_label_parameters(config), config.train.seed)
    )


def configuration(folder: str, name: str, step: str, workers: int) -> Config:
    """The demo's configuration on the city."""
    path = f"configs/{name}/{'estep/it1' if step == 'E-step' else 'pretrain/assop2p'}.yaml"
    places = {"root": "city", "index_path": "index", "sparse_label_path": "weak", "superpixel": "seeds"}
    overrides = [f"--dataset.{key}={os.path.join(folder, place)}" for key, place in places.items()]
    return load_config(path, [f"configs/demo/{name}.yaml"], [*overrides, f"--workers_per_gpu={workers}"])


def row(folder: str, name: str, step: str, network: str) -> dict[str, str]:
    """One line of the table."""
    alone, main_process = (timed(folder, name, step, network, workers) for workers in (0, 1))
    return {
        "data set": name,
        "step": step,
        "network": network,
        "frames/s": f"{1 / alone:.1f}",
        "main process, ms a frame": f"{1e3 * main_process:.1f}",
    }


def timed(folder: str, name: str, step: str, network: str, workers: int) -> float:
    """CPU seconds of this process a frame."""
    config = configuration(folder, name, step, workers)
    builder.make_reader(config, "val")  # fills in the numbers of classes and features
    made = builder.make_model
    if network == "linear":
        builder.make_model = lambda config, *_, **__: LinearLayer(  # type: ignore[assignment,return-value]
            config.model.in_channel, config.data.num_classes
        )
    try:
        weights = os.path.join(folder, "run", "checkpoints", "weights.pt")
        os.makedirs(os.path.dirname(weights), exist_ok=True)
        torch.manual_seed(0)
        torch.save({"model": builder.make_model(config, CPU, imagenet=False).state_dict()}, weights)
        run = os.path.join(folder, "run")
        given = {"split": "val", "save_predictions": None, "submission": None, "run_dir": run, "weight_path": weights}
        for _ in range(2):
            shutil.rmtree(builder.pseudo_label_dir(run, 1), ignore_errors=True)
            start = time.process_time()
            what = Run(config, argparse.Namespace(config="", **given), run, CPU)
            (steps.estep if step == "E-step" else scoring.evaluate)(what)
            spent = time.process_time() - start
    finally:
        builder.make_model = made
    split = "train" if step == "E-step" else "val"
    return spent / len(builder.make_reader(config, split))


if __name__ == "__main__":
    main()
