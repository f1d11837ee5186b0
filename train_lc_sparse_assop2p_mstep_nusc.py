"""M-step: trains from scratch with the pseudo-labels of the E-step before (rounds 1 and 2, any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run-dir", required=True, help="run directory of the steps before; results go there, too")
    parser.add_argument("--weight-path", help="checkpoint to go on from (weights, optimiser, epoch)")
    parser.add_argument("--pseudo-label-dir", help="pseudo-labels, if not RUN/pseudo_labels_K")
    run = start(parser)

    from core.steps import train  # after the arguments: --help needs none of it

    train(run)


if __name__ == "__main__":
    run_main(main)
