"""Numbers out of text files, checked."""

from collections.abc import Container
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError

_ROTATION_ERROR = 1e-2  # of R·Rᵀ against the identity: texts round


def read_text(path: str) -> str:
    """The text of a file. Raises UserError: it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); mend or remove it") from None


def read_rows(path: str) -> dict[str, list[str]]:
    """The lines `NAME: WORDS` of a file; UserError as `read_text`."""
    lines = (line.split(":", 1) for line in read_text(path).splitlines() if ":" in line)
    return {name.strip(): words.split() for name, words in lines}


def matrix(where: str, value: Any, sizes: Container[int]) -> NDArray[np.float64]:
    """Numbers of nested lists or of words, one after the other: float64 [n].

    Raises UserError: another number of them, or one that is not finite.
    """
    try:
        numbers = np.array(value, np.float64).ravel()
    except (TypeError, ValueError):
        raise UserError(f"{where}: {value!r} are no numbers; mend them") from None
    if len(numbers) not in sizes or not np.isfinite(numbers).all():
        raise UserError(f"{where}: {len(numbers)} numbers, or one that is not finite: {value}; mend them")
    return numbers


def rigid(where: str, value: Any) -> NDArray[np.float64]:
    """A rotation and a shift: float64 [4, 4] of 12 numbers (three rows) or 16.

    Raises UserError: its left part is no rotation.
    """
    numbers = matrix(where, value, (12, 16))
    transform = np.eye(4)
    transform[:3] = numbers[:12].reshape(3, 4)
    turn = transform[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > _ROTATION_ERROR or np.linalg.det(turn) < 0:
        raise UserError(
            f"{where}: its first three columns are no rotation (determinant {np.linalg.det(turn):.3g}); expected rows "
            "[R | t], t in metres"
        )
    if len(numbers) == 16 and not np.allclose(numbers[12:], [0, 0, 0, 1]):
        raise UserError(f"{where}: its last row is {numbers[12:].tolist()}, expected 0, 0, 0, 1")
    return transform


def read_poses(path: str, count: int, of_what: str) -> NDArray[np.float64]:
    """Lines of twelve numbers: float64 [count, 4, 4].

    Raises UserError: another number of lines than `count`, or one that is no pose.
    """
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    if len(lines) != count:
        raise UserError(f"{path}: {len(lines)} poses, expected {count}, one for each {of_what}; write it again")
    return np.array([rigid(f"{path}: line {k}", line) for k, line in enumerate(lines, 1)]).reshape(-1, 4, 4)


def read_times(path: str, count: int, of_what: str) -> NDArray[np.float64]:
    """Lines of one number, seconds: float64 [count].

    Raises UserError: another number of lines than `count`, or one that is no number.
    """
    words = read_text(path).split()
    if len(words) != count:
        raise UserError(f"{path}: {len(words)} times, expected {count}, one for each {of_what}; write it again")
    return matrix(path, words, (count,))
