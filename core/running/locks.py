"""One process, or one group of processes, at a time in a directory."""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torchpack.utils.logging import logger

from core.errors import UserError

LOCK_NAME = ".lock"
_UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextmanager
def locked(directory: str, first: bool) -> Iterator[None]:
    """Holds DIRECTORY/.lock, in the first process alone. The kernel lets go of it when the process ends, however it
    ends; a file that is left does no harm. On a file system without locks a warning is given instead.

    Raises UserError where another process holds it, naming that process; or where the directory cannot be written.
    """
    descriptor = _lock(directory) if first else None
    try:
        yield
    finally:
        if descriptor is not None:
            os.unlink(os.path.join(directory, LOCK_NAME))
            os.close(descriptor)


def _lock(directory: str) -> int | None:
    path = os.path.join(directory, LOCK_NAME)
    while True:
        try:
            os.makedirs(directory, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"{directory}: cannot be written ({error.strerror}); choose another path") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            os.close(descriptor)
            raise UserError(
                f"{directory}: in use by another process ({holder or 'unknown'}); wait for it, end it, or choose "
                "another directory"
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in _UNSUPPORTED:
                raise UserError(f"{path}: cannot be locked ({error.strerror}); choose another directory") from error
            logger.warning(f"{directory}: its file system has no locks; see to it that nothing else works in it.")
            return None
        if _is_there(path, descriptor):
            break
        os.close(descriptor)  # its holder left, and took the file away, between our two calls
    text = f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}: {sys.argv[0]}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
    return descriptor


def _is_there(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
