"""classes.yaml: the classes of own recordings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from core.datasets.frame import CLASS_KEYS, ClassTable
from core.errors import UserError

MAX_CLASSES = 31  # beside the ignored one: candidate classes are the bits of 32
FILE = "classes.yaml"
_KNOWN = ("name", "color", "thing", "ground", "key", "raw")
_EXAMPLE = "write it as docs/recordings.md shows"


def read_classes(path: str) -> ClassTable:
    """Reads classes.yaml.

    `classes` lists the classes, ids 1, 2, ... in this order: name, color [R, G, B], thing and ground (true or false),
    key of the keyboard, raw (label ids of the label files, by default the class id). `ignored` lists the raw ids of
    the ignored class beside 0.

    Raises UserError: the file is missing, broken, or lists too many classes, a name or a raw id twice.
    """
    content = _read(path)
    rows = content.get("classes")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: expected a list 'classes' of entries such as '- {{name: car}}'; {_EXAMPLE}")
    if len(rows) > MAX_CLASSES:
        raise UserError(f"{path}: {len(rows)} classes, expected at most {MAX_CLASSES}; join some of them")
    for row in rows:
        _check_row(path, row)
    names = ["ignored", *(str(row["name"]) for row in rows)]
    keys = ["", *(str(row.get("key", CLASS_KEYS[i])) for i, row in enumerate(rows))]
    _check_distinct(path, "name", names)
    _check_distinct(path, "key", keys)
    raw = [_raw_ids(path, "ignored", content.get("ignored", [])), *(_row_raw(path, i, r) for i, r in enumerate(rows))]
    raw[0] = [0, *(value for value in raw[0] if value != 0)]
    _check_distinct(path, "raw label", [value for values in raw for value in values])
    colors = [(0, 0, 0), *(tuple(row.get("color", _color(i))) for i, row in enumerate(rows))]
    return ClassTable.of(
        list(zip(names, colors, raw, strict=True)),
        things=_ids(rows, "thing"),
        grounds=_ids(rows, "ground"),
        to_raw=np.array([values[0] for values in raw], np.uint16),
        keys=tuple(keys),
    )


def _read(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: missing: it names the classes; {_EXAMPLE}, or set dataset.classes to it") from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())}); {_EXAMPLE}") from None
    if not isinstance(content, dict) or not content.keys() <= {"classes", "ignored"}:
        raise UserError(f"{path}: expected the keys 'classes' and 'ignored' alone; {_EXAMPLE}")
    return content


def _check_row(path: str, row: Mapping[str, Any]) -> None:
    unknown = [key for key in row if key not in _KNOWN]
    if unknown or not str(row.get("name") or ""):
        what = f"unknown key '{unknown[0]}'" if unknown else "a class without name"
        raise UserError(f"{path}: {what} in {row}; known are: {', '.join(_KNOWN)}")
    color = row.get("color", [0, 0, 0])
    if not (isinstance(color, list) and len(color) == 3 and all(isinstance(v, int) and 0 <= v < 256 for v in color)):
        raise UserError(f"{path}: color of '{row['name']}' is {color}, expected [R, G, B] of 0..255")
    for flag in ("thing", "ground"):
        if not isinstance(row.get(flag, False), bool):
            raise UserError(f"{path}: {flag} of '{row['name']}' is {row[flag]!r}, expected true or false")
    if len(str(row.get("key", "1"))) != 1:
        raise UserError(f"{path}: key of '{row['name']}' is {row['key']!r}, expected a single character")


def _row_raw(path: str, index: int, row: Mapping[str, Any]) -> list[int]:
    values = row.get("raw", index + 1)
    return _raw_ids(path, row["name"], values if isinstance(values, list) else [values])


def _raw_ids(path: str, name: str, values: Any) -> list[int]:
    good = isinstance(values, list) and all(isinstance(v, int) and 0 <= v < 2**16 for v in values)
    if not good or (not values and name != "ignored"):
        raise UserError(f"{path}: raw labels of '{name}' are {values}, expected whole numbers of 0..65535")
    return values


def _check_distinct(path: str, what: str, values: Sequence[Any]) -> None:
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise UserError(f"{path}: {what} '{twice[0]}' stands there twice; give each class its own")


def _ids(rows: Sequence[Mapping[str, Any]], flag: str) -> tuple[int, ...]:
    return tuple(i for i, row in enumerate(rows, 1) if row.get(flag, False))


def _color(index: int) -> tuple[int, int, int]:
    """Hues a golden angle apart."""
    import colorsys

    r, g, b = colorsys.hsv_to_rgb(index * 0.381966 % 1, 0.65, 0.95)
    return round(255 * r), round(255 * g), round(255 * b)
