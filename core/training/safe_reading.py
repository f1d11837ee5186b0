"""Reading files of `torch.save` without running code from them: an unpickler that knows tensors and plain values alone.

NumPy's numbers become Python's, whichever NumPy wrote them; of all other objects nothing is made but an `Unread`.
"""

import collections
import pickle
import sys
from typing import IO, Any

import numpy as np
import torch
import torch._utils

_REFUSED_MODULES = ("sys", "os", "posix", "nt")


class Unread:
    """What an object in a file is read as that is neither a tensor nor a plain value."""

    def __new__(cls, *arguments: Any) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _number(dtype: Any = None, content: Any = None) -> Any:
    """In the place of NumPy's function that makes a number of its dtype and its bytes."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufc" or not isinstance(content, bytes):
        return Unread()
    return np.frombuffer(content, dtype)[0].item()


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    """_codecs.encode, as which bytes are written."""
    return text.encode(encoding)


_KNOWN: dict[str, Any] = {
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray.scalar": _number,  # NumPy 1
    "numpy._core.multiarray.scalar": _number,  # NumPy 2
    "_codecs.encode": _bytes,
    "collections.OrderedDict": collections.OrderedDict,
    "collections.deque": lambda *arguments: [],
    "collections.defaultdict": lambda *arguments: {},
    "torch.Size": torch.Size,
    "torch.device": torch.device,
    **{f"torch._utils.{name}": getattr(torch._utils, name) for name in ("_rebuild_tensor_v2", "_rebuild_parameter")},
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, complex)},
    **{f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
"""All that an unpickled file may call or hold besides plain values."""


class Unpickler(pickle.Unpickler):
    """What `torch.load` reads with."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _REFUSED_MODULES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN.get(f"{module}.{name}", Unread)


def load(file: IO[bytes], **options: Any) -> Any:
    """`pickle.load`, for files of before PyTorch 1.6."""
    return Unpickler(file, **options).load()


def read_safely(path: str) -> tuple[Any, list[str]]:
    """Reads a file of `torch.save` on the CPU; no code in it is run.

    Returns its content, and what could not be read: of a dict the keys whose values hold something that is neither a
    tensor nor a plain value, which are left out.

    Raises what PyTorch and pickle raise.
    """
    content = torch.load(path, map_location="cpu", pickle_module=sys.modules[__name__], weights_only=False)
    if not isinstance(content, dict):
        return content, []
    unread = [key for key, value in content.items() if _holds_unread(value)]
    return {key: value for key, value in content.items() if key not in unread}, list(map(str, unread))


def _holds_unread(value: Any) -> bool:
    if isinstance(value, Unread) or (isinstance(value, type) and issubclass(value, Unread)):
        return True
    if isinstance(value, dict):
        return any(_holds_unread(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple | set) and any(map(_holds_unread, value))
