"""Makes the file system look like NFS or Lustre to each Python process that has this folder in its PYTHONPATH: deleting
takes its time, and there are no files without a name."""

import errno
import os
import time
from typing import Any

DELAY = 0.03
_open, _unlink = os.open, os.unlink


def _open_with_name(path: Any, flags: int, *args: Any, **options: Any) -> int:
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), path)
    return _open(path, flags, *args, **options)


def _unlink_slowly(path: Any, **options: Any) -> None:
    time.sleep(DELAY)
    _unlink(path, **options)


os.open = _open_with_name  # type: ignore[assignment]
os.unlink = os.remove = _unlink_slowly  # type: ignore[assignment]
