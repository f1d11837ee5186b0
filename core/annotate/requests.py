"""Reading what a page sends."""

from typing import Any

from core.datasets.frame import CLASS_KEYS, ClassTable
from core.errors import UserError

COMMAND_KEYS = "hmsx?+-"
"""Keys that are no class's."""
LONGEST = 600.0
"""s; who takes longer was away, and no time is noted."""
LARGEST = 1e9
"""Of a number of a plane."""


class BadRequest(ValueError):
    """A request that is not one of the page's; its text says why."""


def class_keys(classes: ClassTable) -> tuple[str, ...]:
    """The key of each class, "" for the ignored one; UserError where one is a command's."""
    keys = classes.keys or ("", *CLASS_KEYS[: classes.num_classes - 1])
    for name, key in zip(classes.names, keys, strict=True):
        if key and key.lower() in COMMAND_KEYS:
            raise UserError(f"key of class '{name}': '{key}' is a command of the page; choose none of {COMMAND_KEYS}")
    return tuple(key.lower() for key in keys)


def read_seconds(value: Any) -> float | None:
    """The time that an answer took, s; None where it is not known."""
    if value is None:
        return None
    if type(value) not in (int, float) or not value >= 0:
        raise BadRequest("seconds: expected a number from 0 on")
    return round(float(value), 2) if value <= LONGEST else None


def read_plane(value: Any) -> tuple[float, ...]:
    """The four numbers of a plane."""
    if not isinstance(value, list) or len(value) != 4:
        raise BadRequest("plane: expected four numbers")
    if any(type(number) not in (int, float) or not abs(number) < LARGEST for number in value):
        raise BadRequest("plane: expected numbers")
    return tuple(map(float, value))
