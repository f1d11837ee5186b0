"""Class and confidence of every point of any frames, labelled or not (any data set)."""

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start
from core.scores.point_files import FORMATS


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--weight-path", required=True, help="checkpoint")
    parser.add_argument("--output", required=True, metavar="DIR", help="where the files go, one or two a frame")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="label",
        help="label (SemanticKITTI's, with confidences beside it; default), npy, or a coloured cloud: pcd, ply",
    )
    parser.add_argument(
        "--uncertainty", action="store_true", help="also how sure the network is of each component (needs proposals)"
    )
    run = start(parser)

    from core.scores.predict import predict  # after the arguments: --help needs none of it

    predict(run)


if __name__ == "__main__":
    run_main(main)
