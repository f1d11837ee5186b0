"""nuScenes with lidarseg labels."""

from core.datasets.nuscenes.reader import CLASSES, NuScenes

__all__ = ["CLASSES", "NuScenes", "open_reader"]

open_reader = NuScenes
