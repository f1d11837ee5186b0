"""Pretraining (iteration 0), and by configuration the baselines and full supervision, on any data set."""

from core.runtime import argument_parser, run_main, start
from core.steps import train


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run-dir", required=True, help="where checkpoints and logs go")
    parser.add_argument("--weight-path", help="checkpoint to go on from (weights, optimiser, epoch)")
    train(start(parser))


if __name__ == "__main__":
    run_main(main)
