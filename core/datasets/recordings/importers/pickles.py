"""Tables of pandas out of pickles, without pandas and without running what a pickle asks for."""

import gzip
import io
import pickle
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError


class _Table:
    """Stands in for a DataFrame and for its block manager: keeps the state that they would be given."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Index:
    """Stands in for a class of index."""


def _new_index(kind: type, content: dict[str, Any]) -> Any:
    return content.get("data")


_reconstruct = np.zeros(0).__reduce__()[0]  # whatever this version of NumPy calls it
_KNOWN = {
    ("pandas.core.frame", "DataFrame"): _Table,
    ("pandas.core.internals.managers", "BlockManager"): _Table,
    ("pandas.core.indexes.base", "_new_Index"): _new_index,
    ("pandas.core.indexes.base", "Index"): _Index,
    ("pandas.core.indexes.numeric", "Int64Index"): _Index,
    ("pandas.core.indexes.range", "RangeIndex"): _Index,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("builtins", "slice"): slice,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """The stand-in, or nothing: no code that a file names is looked up."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table needs")
        return _KNOWN[module, name]


def read_table(path: str) -> dict[str, NDArray[Any]]:
    """Columns of a gzipped pickle of a pandas frame of numbers (as pandas 1.0 writes it): {name: [N]}.

    Raises UserError: the file is missing, broken, or something else.
    """
    try:
        with gzip.open(path) as file:
            frame = _Unpickler(io.BytesIO(file.read())).load()
        manager = frame.state.get("_data", frame.state.get("_mgr"))
        content = manager.state[-1]["0.14.1"]
        names = [str(name) for name in content["axes"][0]]
        columns: dict[str, NDArray[Any]] = {}
        for block in content["blocks"]:
            places = np.arange(len(names))[block["mgr_locs"]]
            columns |= {names[place]: row for place, row in zip(places, block["values"], strict=True)}
        return {name: columns[name] for name in names}
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); unpack the data set again") from None
    except (pickle.UnpicklingError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: no table of numbers ({error}); unpack the data set again") from None
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a table as pandas 1.0 pickles it ({error}); unpack the data set again") from None
