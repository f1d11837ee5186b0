"""SemanticKITTI, with the colour images of KITTI odometry."""

from core.datasets.semantic_kitti.classes import CLASSES
from core.datasets.semantic_kitti.reader import SemanticKitti

__all__ = ["CLASSES", "SemanticKitti", "open_reader"]

open_reader = SemanticKitti
