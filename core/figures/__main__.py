"""Draws the figures of a run: python3 -m core.figures CONFIG --run-dir RUN [--predictions DIR]."""

import os

from torchpack.utils.logging import logger

from core.errors import UserError
from core.figures import make_figures
from core.running.arguments import argument_parser
from core.running.runtime import run_main, start


def main() -> None:
    parser = argument_parser(__doc__)
    # not `run_dir`: figures leave the run's logs and configurations as they are
    parser.add_argument("--run-dir", dest="run", required=True, help="the run whose results are drawn")
    parser.add_argument("--predictions", metavar="DIR", help="what eval_miou.py --save-predictions wrote")
    parser.add_argument("--output", metavar="DIR", help="where the figures go (default: RUN/figures)")
    run = start(parser, needs_device=False)
    run_dir = run.arguments.run
    if not os.path.isdir(run_dir):
        raise UserError(f"--run-dir {run_dir}: no such run directory; give the one that the training commands wrote to")
    output = run.arguments.output or os.path.join(run_dir, "figures")
    written = make_figures(run.config, run_dir, run.arguments.predictions, output)
    logger.info(f"{len(written)} figures in {output}.")


if __name__ == "__main__":
    run_main(main)
