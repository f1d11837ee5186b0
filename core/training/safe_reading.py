"""Reading files of `torch.save` without running code from them: PyTorch's restricted reader, which knows tensors and
plain values, with stand-ins for everything else.

A stand-in is a class of ours under the name of what the file asks for. NumPy's numbers become Python's, whichever NumPy
wrote them; of other objects nothing is made but an `Unread`.
"""

import io
import pickletools
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch

_REFUSED_MODULES = ("sys", "os", "posix", "nt")  # as newer versions of PyTorch have it
_LEGACY_PICKLES = 4  # before PyTorch 1.6: magic number, protocol, system, the object


class Unread:
    """What an object in a file is read as that is neither a tensor nor a plain value."""

    def __new__(cls, *arguments: Any) -> "Unread":
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Dtype(Unread):
    """numpy.dtype(code), of which the state tells the byte order."""

    def __init__(self, *arguments: Any) -> None:
        self.code, self.order = str(arguments[0]), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])


class _Scalar:
    """NumPy's function that makes a number of its dtype and its bytes."""

    def __new__(cls, dtype: Any, content: Any = None) -> Any:  # type: ignore[misc]
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            return Unread()
        if np.dtype(dtype.code).kind not in "biufc":
            return Unread()
        swapped = dtype.order == ">"
        return np.frombuffer(content, f"{'>' if swapped else '<'}{dtype.code.lstrip('<>=|')}")[0].item()


class _Bytes:
    """_codecs.encode, as which bytes are written."""

    def __new__(cls, text: str, encoding: str = "latin1") -> bytes:  # type: ignore[misc]
        return text.encode(encoding)


class _List:
    def __new__(cls, *arguments: Any) -> list[Any]:  # type: ignore[misc]
        return []


class _Dict:
    def __new__(cls, *arguments: Any) -> dict[Any, Any]:  # type: ignore[misc]
        return {}


_KNOWN = {
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _Scalar,  # NumPy 1
    "numpy._core.multiarray.scalar": _Scalar,  # NumPy 2
    "_codecs.encode": _Bytes,
    "collections.deque": _List,
    "collections.defaultdict": _Dict,
}


def read_safely(path: str) -> tuple[Any, list[str]]:
    """Reads a file of `torch.save` on the CPU; no code in it is run.

    Returns:
        Its content, and what could not be read: of a dict the keys whose values hold something that is neither a tensor
        nor a plain value, which are left out.

    Raises what PyTorch's restricted reader raises.
    """
    with _stand_ins(_names(path)):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        return content, []
    unread = [key for key, value in content.items() if _holds_unread(value)]
    return {key: value for key, value in content.items() if key not in unread}, list(map(str, unread))


def _names(path: str) -> set[str]:
    """Names, with dots, of all that the file asks for; Python 2's, which torch.save writes, as Python 3's too."""
    names: set[str] = set()
    for file, pickles in _pickles(path):
        for _ in range(pickles):
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "GLOBAL":
                    module, _, name = str(argument).partition(" ")
                    names.add(f"{module}.{name}")
                    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
                    names.add(f"{module}.{name}")
    return names


def _pickles(path: str) -> Iterator[tuple[IO[bytes], int]]:
    """The files of pickles in a checkpoint, and how many stand in each, one after the other."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            yield file, _LEGACY_PICKLES
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("/data.pkl"):
                yield io.BytesIO(archive.read(name)), 1


@contextmanager
def _stand_ins(names: set[str]) -> Iterator[None]:
    """PyTorch's reader takes our classes for `names`, where it has nothing of its own for them."""
    before = list(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals(
        [_stand_in(name) for name in sorted(names) if name.split(".")[0] not in _REFUSED_MODULES]
    )
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _stand_in(name: str) -> type:
    module, _, attribute = name.rpartition(".")
    return type(attribute, (_KNOWN.get(name, Unread),), {"__module__": module, "__qualname__": attribute})


def _holds_unread(value: Any) -> bool:
    if isinstance(value, Unread) or (isinstance(value, type) and issubclass(value, Unread)):
        return True
    if isinstance(value, dict):
        return any(_holds_unread(part) for pair in value.items() for part in pair)
    return isinstance(value, list | tuple | set) and any(map(_holds_unread, value))
