"""Scores a checkpoint, writes predictions and submissions (any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--weight-path", required=True, help="checkpoint")
    parser.add_argument("--split", choices=("val", "test", "train"), default="val")
    parser.add_argument("--run-dir", help="where results.json goes (default: the checkpoint's run directory)")
    parser.add_argument("--save-predictions", metavar="DIR", help="write the labels of all points, DIR/<token>.bin")
    parser.add_argument(
        "--confidences", action="store_true", help="with --save-predictions: also DIR/<token>.confidence.bin"
    )
    parser.add_argument("--submission", metavar="DIR", help="write the benchmark's submission, and check it")
    run = start(parser)

    from core.scores.scoring import evaluate  # after the arguments: --help needs none of it

    evaluate(run)


if __name__ == "__main__":
    run_main(main)
