"""numba's `njit`, with its compiled code kept wherever there is a place for it."""

import os
import stat
import tempfile
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numba


def njit(cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with these options.

    With `cache`, numba keeps the compiled code beside the source or in the user's home. Where neither can be written,
    as in a container of a read-only image, it goes to a temporary folder that later processes find; with no such
    folder either, each process compiles for itself.
    """

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=cache, **options)(function)
        except RuntimeError:  # numba finds no place
            return numba.njit(cache=_keep_in_temporary_folder(), **options)(function)

    return compiled


@lru_cache(maxsize=1)
def _keep_in_temporary_folder() -> bool:
    """Makes numba, in this process and its children, keep its code in a temporary folder; False where none serves."""
    try:
        folder = os.path.join(tempfile.gettempdir(), f"iupc-numba-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        status = os.lstat(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        return False  # code that somebody else may have put there is not run
    os.environ["NUMBA_CACHE_DIR"] = folder
    numba.config.reload_config()
    return True
