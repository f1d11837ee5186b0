"""Weak labels from proposals and the journal of clicks on them (any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="answer what is not answered yet from the dense labels, into the journal",
    )
    parser.add_argument(
        "--skip-changed", action="store_true", help="leave out clicks on clouds or components that have changed since"
    )
    run = start(parser, needs_device=False)

    from core import builder  # after the arguments: --help needs none of it
    from core.labeling.over_data_set.label_clicks import label_from_clicks, simulate_clicks
    from core.steps import command_line

    config = run.config
    reader = builder.make_reader(config, "train")
    reader.check_files(labels=run.arguments.simulate)
    places = (config.proposals.path, config.proposals.journal)
    parameters, seed = builder.weak_label_parameters(config), config.train.seed
    if run.arguments.simulate:
        simulate_clicks(reader, *places, parameters, seed)
    directory = config.dataset.sparse_label_path
    label_from_clicks(reader, directory, *places, parameters, seed, run.arguments.skip_changed, command=command_line())


if __name__ == "__main__":
    run_main(main)
