"""Progress bars with the time left."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from torchpack import distributed as dist
from tqdm import tqdm

T = TypeVar("T")


def progress(iterable: Iterable[T], total: int | None, description: str) -> Iterator[T]:
    """Yields from `iterable` behind a bar with the time left, drawn by the first process only."""
    return iter(tqdm(iterable, total=total, desc=description, ncols=0, mininterval=1.0, disable=not dist.is_master()))
