"""The blocks of SEEDS: a fixed grid per level; the coarsest level's blocks are the superpixels' first shapes."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

MAX_SUPERPIXELS = 65536  # ids have 16 bits


@dataclass(frozen=True, eq=False)
class Level:
    """A grid of blocks, of one or more pixels each.

    Attributes:
        row_starts, column_starts: int64 [rows + 1], [columns + 1]: first pixel row of each row of blocks, and the
            image's height; likewise columns.
        parent_rows, parent_columns: int64 [rows], [columns]: the next coarser level's row that a row of blocks belongs
            to; likewise columns; empty on the coarsest level.
    """

    row_starts: NDArray[np.int64]
    column_starts: NDArray[np.int64]
    parent_rows: NDArray[np.int64]
    parent_columns: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Number of rows of blocks."""
        return len(self.row_starts) - 1

    @property
    def columns(self) -> int:
        """Number of columns of blocks."""
        return len(self.column_starts) - 1

    def children(self, parents: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Hands the next coarser level's values [rows, columns] down to this level's blocks."""
        return parents[self.parent_rows[:, None], self.parent_columns]

    def pixels(self, blocks: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Hands the blocks' values [rows, columns] down to their pixels [H, W]."""
        return blocks.repeat(np.diff(self.row_starts), 0).repeat(np.diff(self.column_starts), 1)


@lru_cache(maxsize=16)
def block_levels(size: tuple[int, int], num_superpixels: int, num_levels: int) -> tuple[Level, ...]:
    """The levels of an image of `size` = (H, W), finest first: `num_levels`, or as many as its pixels suffice for.

    Raises UserError: fewer than two levels, or no whole block in one, or more superpixels than 16 bits number. OpenCV's
    result is then undefined; with a single level it crashes.
    """
    height, width = size
    unfit = f"dataset.seeds: {num_superpixels} superpixels do not suit an image of {width}x{height} pixels"
    down = int(np.sqrt(np.float32(max(num_superpixels, 10)) * np.float32(height) / np.float32(width)))
    across = down * width // height
    if min(down, across) == 0:
        raise UserError(f"{unfit}: it is too narrow for square ones; ask for more (num_superpixels)")
    block_height, block_width = np.float32(height) / np.float32(down), np.float32(width) / np.float32(across)
    halvings = max(num_levels, 2) - 1
    while halvings > 0 and min(block_height, block_width) < 2**halvings:
        halvings -= 1
    if halvings == 0:
        raise UserError(f"{unfit}: they would be of less than 2x2 pixels; ask for fewer (num_superpixels)")
    rows, columns = height // math.ceil(block_height / 2**halvings), width // math.ceil(block_width / 2**halvings)
    shapes = [(rows >> k, columns >> k) for k in range(halvings + 1)]
    if min(shapes[-1]) == 0:
        raise UserError(f"{unfit} on {len(shapes)} levels: take fewer levels (num_levels)")
    if shapes[-1][0] * shapes[-1][1] > MAX_SUPERPIXELS:
        raise UserError(f"{unfit}: more than {MAX_SUPERPIXELS} cannot be stored; ask for fewer (num_superpixels)")
    row_starts, parent_rows = _axis(height, [shape[0] for shape in shapes])
    column_starts, parent_columns = _axis(width, [shape[1] for shape in shapes])
    return tuple(map(Level, row_starts, column_starts, parent_rows, parent_columns))


def _axis(length: int, counts: list[int]) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Starts and parents of the blocks along one axis of `length` pixels, per level.

    Pixel p belongs to block floor(p * count / length) of the finest level; a block's parent is where its last pixel
    falls by the same rule, so that coarse blocks are unions of fine ones even where sizes do not divide.
    """
    position = np.arange(length)
    starts = [np.searchsorted(position * counts[0] // length, np.arange(counts[0] + 1))]
    parents = []
    for count, coarser in zip(counts[:-1], counts[1:], strict=True):
        last = np.searchsorted(position * count // length, np.arange(count), side="right") - 1
        parents.append(last * coarser // length)
        starts.append(starts[-1][np.searchsorted(parents[-1], np.arange(coarser + 1))])
    return starts, [*parents, np.empty(0, np.int64)]
