"""Importers: each is a module here with a function `sources` that gives recordings file by file."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from core.datasets.recordings.importers.writing import Source

NAMES = {"pandaset": "pandaset", "kitti-raw": "kitti_raw", "rosbag": "rosbag", "nuscenes": "nuscenes"}
"""What `--from` may say, and the module that reads it."""


def open_sources(kind: str, source: str, options: Mapping[str, Any]) -> Iterator[Source]:
    """The recordings of a source.

    Raises UserError: the source is not what `kind` says, or a file of it is missing or broken.
    """
    module = importlib.import_module(f"{__name__}.{NAMES[kind]}")
    found: Iterator[Source] = module.sources(source, options)
    return found
