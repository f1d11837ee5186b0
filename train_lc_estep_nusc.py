"""E-step, round 1: pseudo-labels for points with candidates (any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--run-dir", required=True, help="run directory of the steps before; results go there, too")
    parser.add_argument("--weight-path", required=True, help="checkpoint of the pretraining")
    run = start(parser)

    from core.steps import estep  # after the arguments: --help needs none of it

    estep(run)


if __name__ == "__main__":
    run_main(main)
