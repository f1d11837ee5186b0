"""What ends a command before its time, and with which exit status."""


class UserError(Exception):
    """Bad input, told in one line: which file or key, what was expected, which command mends it.

    Entry scripts print the message without a traceback and exit with status 2.
    """


RESUME_STATUS = 75
"""Exit status (EX_TEMPFAIL) of training that was asked to stop: the same command goes on."""


class Preempted(Exception):
    """Training was asked to stop, and has written a checkpoint, which the message names."""
