"""What every reader checks of the points that it has read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

MAX_COORDINATE = 10_000.0
"""No LiDAR sees so far, m."""
MAX_FEATURE = 1e6
"""Beyond any intensity or elongation that a data set stores."""


@dataclass(frozen=True)
class LastColumn:
    """What the last number of a data set's points is, by which files of other columns are told.

    Attributes:
        name: of the number.
        highest: its largest value; the smallest is 0.
        whole: it is a whole number.
        layout: all numbers of a point, for errors.
    """

    name: str
    highest: float
    whole: bool
    layout: str


def is_valid(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """bool [N]: which points [N, >= 1] of a reader are points; the others are not a number throughout."""
    return ~np.isnan(points[:, 0])


def valid_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those of points [N, >= 1] that are points."""
    valid = is_valid(points)
    return points if valid.all() else points[valid]


def check_points(
    points: NDArray[np.float32], path: str, mend: str, drop: bool = False, last: LastColumn | None = None
) -> None:
    """Raises UserError, with what mends it, where a number of float32 [N, 3 + F] (x, y, z, ...) cannot be right.

    Args:
        drop: points with a number that is not finite become not a number throughout, in place, instead of an error.
        last: what the last column holds; None: not checked.
    """
    valid = points
    if not np.isfinite(points).all():
        if not drop:
            raise UserError(
                f"LiDAR file {path} holds numbers that are not finite: {mend}, or set dataset.invalid_points to drop "
                "where the sensor gives them for no return"
            )
        finite = np.isfinite(points).all(1)
        points[~finite] = np.nan
        valid = points[finite]
    if last is not None:
        _check_last(valid[:, -1], last, path, mend)
    largest = np.array([np.abs(column).max(initial=0) for column in valid.T])  # several times max(axis=0)'s speed
    for name, value, limit in (
        ("coordinate", largest[:3].max(), MAX_COORDINATE),
        ("intensity", largest[3:].max(initial=0), MAX_FEATURE),
    ):
        if value > limit:
            what = f"a point of {name} {value:.3g}, expected at most {limit:g}"
            raise UserError(f"LiDAR file {path} holds {what}: {mend}")


def _check_last(values: NDArray[np.float32], last: LastColumn, path: str, mend: str) -> None:
    values = np.ascontiguousarray(values)  # each pass is several times as quick
    wrong = (values < 0) | (values > last.highest)
    if last.whole:
        wrong |= values != np.rint(values)
    if wrong.any():
        kind = "whole numbers" if last.whole else "numbers"
        raise UserError(
            f"LiDAR file {path} holds a point of {last.name} {values[wrong.argmax()]:.6g}, expected {kind} from 0 to "
            f"{last.highest:g}: its points should be float32 {last.layout}; {mend}"
        )
