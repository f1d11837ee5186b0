"""Weak labels for the training frames: pre-segmentation, then simulated annotation (any data set)."""


def main() -> None:
    from core.runtime import argument_parser, start  # only where needed: workers load this file, too, without torch

    run = start(argument_parser(__doc__), needs_device=False)

    from torchpack import distributed as dist  # after the arguments: --help needs none of it

    from core import builder
    from core.comm import barrier, in_first_process
    from core.labeling.prepare import prepare_weak_labels
    from core.steps import command_line

    reader = builder.make_reader(run.config, "train", sweeps=True)
    in_first_process(lambda: reader.check_files(labels=True, sweeps=True))
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
    from core.runtime import run_main

    run_main(main)
