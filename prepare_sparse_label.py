"""Weak labels for the training frames: pre-segmentation, then simulated annotation (any data set); with
dataset.annotator clicks, proposals to click on."""


def main() -> None:
    # only where needed: workers load this file, too, without torch
    from core.running.arguments import argument_parser
    from core.running.runtime import start

    run = start(argument_parser(__doc__), needs_device=False)

    from torchpack import distributed as dist  # after the arguments: --help needs none of it

    from core import builder
    from core.labeling.annotation.proposals import ProposalJob
    from core.labeling.over_data_set.jobs import WeakLabelJob
    from core.labeling.over_data_set.prepare import prepare
    from core.running.comm import barrier, in_first_process
    from core.steps import command_line

    reader = builder.make_reader(run.config, "train", sweeps=True)
    by_clicks = run.config.dataset.annotator == "clicks"
    in_first_process(lambda: reader.check_files(labels=not by_clicks, sweeps=True))
    path = run.config.proposals.path if by_clicks else run.config.dataset.sparse_label_path
    made = ProposalJob if by_clicks else WeakLabelJob
    prepare(
        made(reader, path, builder.weak_label_parameters(run.config), run.config.train.seed),
        rank=dist.rank(),
        world_size=dist.size(),
        num_workers=run.config.workers_per_gpu,
        barrier=barrier,
        command=command_line(),
    )


if __name__ == "__main__":
    from core.running.runtime import run_main

    run_main(main)
