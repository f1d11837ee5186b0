"""A page in the browser in which a person labels the proposed components (any data set; docs/annotate.md)."""

import argparse

from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def share(text: str) -> float:
    """A number from 0 to 0.5."""
    value = float(text)
    if not 0 <= value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text}: expected a share from 0 to 0.5")
    return value


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--order",
        choices=("file", "size", "random", "uncertainty"),
        help="which component comes next (default: size; uncertainty with --suggestions)",
    )
    parser.add_argument(
        "--suggestions", metavar="DIR", help="what predict.py --uncertainty wrote: classes to accept, and how sure"
    )
    parser.add_argument(
        "--repeat",
        type=share,
        default=0.03,
        metavar="SHARE",
        help="of the components, to come up twice, unannounced, so that the agreement can be told (default: 0.03)",
    )
    parser.add_argument("--who", help="name to note in the journal (default: the user's)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on; 0: any free one (default: 8765)")
    run = start(parser, needs_device=False)

    from core.annotate.run import annotate  # after the arguments: --help needs none of it

    annotate(run)


if __name__ == "__main__":
    run_main(main)
