"""Superpixels of the training frames' camera images (any data set)."""

from torchpack import distributed as dist

from core import builder
from core.comm import barrier
from core.labeling.prepare import prepare_superpixels
from core.runtime import argument_parser, run_main, start
from core.steps import command_line


def main() -> None:
    run = start(argument_parser(__doc__, config_default="configs/nuscenes/default.yaml"), needs_device=False)
    reader = builder.make_reader(run.config, "train")
    reader.check_files(labels=False)
    prepare_superpixels(
        reader,
        run.config.dataset.superpixel,
        builder.superpixel_parameters(run.config, builder.image_size(run.config, reader)),
        rank=dist.rank(),
        world_size=dist.size(),
        num_workers=run.config.workers_per_gpu,
        barrier=barrier,
        command=command_line(),
    )


if __name__ == "__main__":
    run_main(main)
