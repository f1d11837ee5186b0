"""The command line of an entry script: its own arguments, and overrides of configuration keys."""

import argparse
from collections.abc import Sequence


def argument_parser(description: str, config_default: str | None = None) -> argparse.ArgumentParser:
    """The arguments that all scripts share."""
    parser = argparse.ArgumentParser(
        description=description,
        allow_abbrev=False,
        epilog="Any configuration key can be overridden: --optimizer.lr 0.1",
    )
    nargs = {} if config_default is None else {"nargs": "?", "default": config_default}
    parser.add_argument("config", metavar="CONFIG", help="YAML configuration", **nargs)  # type: ignore[arg-type]
    parser.add_argument(
        "--with",
        dest="overlays",
        metavar="FILE",
        action="append",
        default=[],
        help="a further YAML file laid over the configuration (may be given more than once)",
    )
    parser.add_argument("--non-dist", action="store_true", help="one process, whatever started it")
    return parser


def split_overrides(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts the command line into the script's own arguments and overrides of configuration keys with their values."""
    own: list[str] = []
    overrides: list[str] = []
    pieces = list(argv)
    while pieces:
        piece = pieces.pop(0)
        if not piece.startswith("--") or piece.split("=")[0] in parser._option_string_actions:
            own.append(piece)
            continue
        overrides.append(piece)
        if "=" not in piece and pieces and not pieces[0].startswith("--"):
            overrides.append(pieces.pop(0))
    return own, overrides
