"""The data sets: each is a package beside this file, with a function `open_reader`."""

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

import core.datasets
from core.datasets.base import Reader
from core.errors import UserError


def dataset_names() -> list[str]:
    """Names of all data sets, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(core.datasets.__path__) if module.ispkg)


COMMON = ("root", "version", "split", "index_path", "num_sweeps")
"""What every `open_reader` takes, in this order."""


def open_dataset(
    name: str,
    root: str,
    version: str,
    split: str,
    index_path: str,
    num_sweeps: int,
    keys: Mapping[str, Any] | None = None,
) -> Reader:
    """Opens a split of the data set of that name.

    Args:
        root: data root.
        version: of the data set, where it has several.
        split: "train", "val" or "test".
        index_path: folder where the data set keeps what it builds once.
        num_sweeps: earlier sweeps that each frame lists.
        keys: the configuration's keys below `dataset`; further arguments of an `open_reader` are those of their names:
            of several data sets `invalid_points` ("refuse" or "drop" points that are not numbers) and `frames` ("all",
            or "available": those whose files are there).
    Raises UserError: an unknown name, or a data root that is missing or not whole in its tables.
    """
    if name not in dataset_names():
        raise UserError(f"dataset.name: '{name}' is unknown; known are: {', '.join(dataset_names())}")
    open_reader = importlib.import_module(f"core.datasets.{name}").open_reader
    keys = keys or {}
    own = [key for key in inspect.signature(open_reader).parameters if key not in COMMON and key in keys]
    reader: Reader = open_reader(root, version, split, index_path, num_sweeps, **{key: keys[key] for key in own})
    return reader
