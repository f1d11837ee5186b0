"""What ends a command before its time, and with which exit status."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input, told in one line: which file or key, what was expected, which command mends it.

    Entry scripts print the message without a traceback and exit with status 2.
    """


RESUME_STATUS = 75
"""Exit status (EX_TEMPFAIL) of training that was asked to stop: the same command goes on."""


class Preempted(Exception):
    """Training was asked to stop, and has written a checkpoint, which the message names."""


def run_alone(main: Callable[[], None]) -> None:
    """Runs the main function of a script that needs neither PyTorch nor other processes."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, Preempted):
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
