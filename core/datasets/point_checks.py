"""What every reader checks of the points that it has read."""

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

MAX_COORDINATE = 10_000.0
"""No LiDAR sees so far, m."""
MAX_FEATURE = 1e6
"""Beyond any intensity or elongation that a data set stores."""


def check_points(points: NDArray[np.float32], path: str, mend: str) -> None:
    """Raises UserError, with what mends it, where a number of float32 [N, 3 + F] (x, y, z, ...) cannot be right."""
    if not np.isfinite(points).all():
        raise UserError(f"LiDAR file {path} holds numbers that are not finite: {mend}")
    largest = np.array([np.abs(column).max(initial=0) for column in points.T])  # several times max(axis=0)'s speed
    for name, value, limit in (
        ("coordinate", largest[:3].max(), MAX_COORDINATE),
        ("intensity", largest[3:].max(initial=0), MAX_FEATURE),
    ):
        if value > limit:
            what = f"a point of {name} {value:.3g}, expected at most {limit:g}"
            raise UserError(f"LiDAR file {path} holds {what}: {mend}")
