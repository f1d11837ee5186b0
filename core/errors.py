"""The error that a user can mend."""


class UserError(Exception):
    """Bad input, told in one line: which file or key, what was expected, which command mends it.

    Entry scripts print the message without a traceback and exit with status 2.
    """
