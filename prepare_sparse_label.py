"""Weak labels for the training frames: pre-segmentation, then simulated annotation (any data set)."""

from torchpack import distributed as dist

from core import builder
from core.comm import barrier
from core.labeling.prepare import prepare_weak_labels
from core.runtime import argument_parser, run_main, start
from core.steps import command_line


def main() -> None:
    run = start(argument_parser(__doc__), needs_device=False)
    reader = builder.make_reader(run.config, "train", sweeps=True)
    reader.check_files(labels=True, sweeps=True)
    prepare_weak_labels(
        reader,
        run.config.dataset.sparse_label_path,
        builder.weak_label_parameters(run.config),
        run.config.train.seed,
        rank=dist.rank(),
        world_size=dist.size(),
        num_workers=run.config.workers_per_gpu,
        barrier=barrier,
        command=command_line(),
    )


if __name__ == "__main__":
    run_main(main)
