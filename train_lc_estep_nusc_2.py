"""E-step, round 2: pseudo-labels for all points in view; those of round 1 override (any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run-dir", required=True, help="run directory of the steps before; results go there, too")
    parser.add_argument("--weight-path", required=True, help="checkpoint of the first M-step")
    parser.add_argument("--pseudo-label-dir", help="pseudo-labels of round 1, if not RUN/pseudo_labels_0")
    run = start(parser)

    from core.steps import estep  # after the arguments: --help needs none of it

    estep(run)


if __name__ == "__main__":
    run_main(main)
