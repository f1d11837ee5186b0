"""The folder of temporary files."""

import os
import tempfile

from core.errors import UserError

_LONGEST = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes that a path may have so that the sockets of loader processes below it have one that the system takes."""
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")


def make_room_for_sockets() -> None:
    """Chooses another temporary folder, for this process and its children, where TMPDIR is too long for sockets.

    Raises UserError where none serves.
    """
    given = tempfile.gettempdir()
    length = len(os.fsencode(given))
    if length <= _LONGEST:
        return
    for folder in _SHORT:
        if os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK):
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            return
    raise UserError(
        f"TMPDIR {given}: too long for the sockets of loader processes ({length} bytes, at most {_LONGEST}); set it to "
        "a shorter path"
    )
