"""Waymo Open, release 2 (Parquet), with its labels for 3D semantic segmentation."""

from core.datasets.waymo.classes import CLASSES
from core.datasets.waymo.reader import Waymo

__all__ = ["CLASSES", "Waymo", "open_reader"]

open_reader = Waymo
