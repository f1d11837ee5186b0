"""Pretraining (iteration 0), and by configuration the baselines and full supervision, on any data set."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run-dir", required=True, help="where checkpoints and logs go")
    parser.add_argument("--weight-path", help="checkpoint to go on from (weights, optimiser, epoch)")
    run = start(parser)

    from core.steps import train  # after the arguments: --help needs none of it

    train(run)


if __name__ == "__main__":
    run_main(main)
