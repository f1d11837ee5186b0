"""Own recordings: folders of point clouds, with or without camera pictures, poses and labels."""

from core.datasets.recordings.reader import Recordings

__all__ = ["Recordings", "open_reader"]

open_reader = Recordings
"""Called as every data set's, with the keys `columns`, `classes`, `splits` and `time_tolerance` below `dataset`."""
