"""Sparse tensors and convolution on voxels: one interface, several engines (see `engines.py`)."""

from core.sparse.coordinates import Coordinates
from core.sparse.engines import available_engines, choose_engine
from core.sparse.layers import Conv3d, SparseSequential, concatenate, devoxelize, voxelize
from core.sparse.rows import RowMap, mix_rows
from core.sparse.tensor import SparseTensor

__all__ = [
    "Conv3d",
    "Coordinates",
    "RowMap",
    "SparseSequential",
    "SparseTensor",
    "available_engines",
    "choose_engine",
    "concatenate",
    "devoxelize",
    "mix_rows",
    "voxelize",
]
