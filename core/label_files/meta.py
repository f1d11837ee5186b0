"""meta.json of a directory of labels: what it was made of and with; checking a directory before long work."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.label_files.archive import FORMATS
from core.label_files.errors import (
    META_NAME,
    NOUNS,
    PROPOSAL,
    broken,
    foreign,
    label_path,
    mending_command,
    missing_of_many,
)
from core.running.files import absent_files, write_json

if TYPE_CHECKING:
    from core.datasets.base import Reader

QUIET = "quiet"
"""Metadata of a dataclass's field that was added after files had been made without it."""


def plain(parameters: Any) -> Any:
    """`parameters` (a dataclass or a mapping) as it comes back from JSON: dicts, lists, numbers, strings.

    Fields of a dataclass that are `quiet` are left out at their default: what was made before they existed stays valid.
    """
    if not dataclasses.is_dataclass(parameters):
        return json.loads(json.dumps(parameters))
    value = dataclasses.asdict(parameters)  # type: ignore[arg-type]
    for field in dataclasses.fields(parameters):
        if field.metadata.get(QUIET) and value[field.name] == field.default:
            del value[field.name]
    return json.loads(json.dumps(value))


def parameters_hash(parameters: Any) -> str:
    """16 hexadecimal digits that change with any value of `parameters` (a dataclass or a mapping)."""
    text = json.dumps(plain(parameters), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def describe(
    kind: str, parameters: Any, seed: int | None, reader: "Reader", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a directory of labels depends on: all of meta.json but its statistics and the command.

    `parameters_hash` in it covers everything else; each label file carries it.
    """
    description = {
        "kind": kind,
        "format": FORMATS[kind],
        "parameters": plain(parameters),
        "seed": seed,
        "dataset": {"name": reader.name, "version": reader.version, "split": reader.split},
        **({} if kind == PROPOSAL else {"classes": list(reader.classes.names)}),
        **plain(extra or {}),
    }
    return {**description, "parameters_hash": parameters_hash(description)}


def write_meta(
    directory: str,
    kind: str,
    parameters: Any,
    seed: int | None,
    reader: "Reader",
    statistics: Any,
    extra: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Writes meta.json, the last file of a directory to be written, and returns its content.

    `extra` is part of what the labels depend on (for instance the version of OpenCV or the checkpoint's hash);
    `command` makes the directory anew and is named in errors.
    """
    meta = {**describe(kind, parameters, seed, reader, extra), "statistics": plain(statistics)}
    if command is not None:
        meta["command"] = command
    write_json(os.path.join(directory, META_NAME), meta)
    return meta


def read_meta(directory: str, kind: str, dataset: str = "DATASET") -> dict[str, Any]:
    """Reads meta.json; BrokenFile where it is missing or damaged, ForeignFile where it is of another kind or format.

    `dataset` stands in the command that the error names, where the directory does not say how it was made.
    """
    path = os.path.join(directory, META_NAME)
    if not os.path.isfile(path):
        if not os.path.isdir(directory):
            command = mending_command(directory, kind, dataset)
            raise UserError(f"{directory}: no such directory of {NOUNS[kind]} files; make it with: {command}")
        what = f"not there: the {NOUNS[kind]} files of this directory are unfinished or not ours"
        raise broken(path, kind, what, dataset)
    try:
        with open(path, encoding="utf-8") as file:
            meta = json.load(file)
    except (OSError, ValueError) as error:
        raise broken(path, kind, f"not readable as JSON ({error})") from error
    found = (meta.get("kind"), meta.get("format")) if isinstance(meta, dict) else (None, None)
    if found != (kind, FORMATS[kind]):
        raise foreign(path, kind, f"expected kind '{kind}', format {FORMATS[kind]}; found '{found[0]}', {found[1]}")
    described = {key: value for key, value in meta.items() if key not in ("parameters_hash", "statistics", "command")}
    if meta.get("parameters_hash") != parameters_hash(described):
        raise broken(path, kind, "damaged or changed by hand: parameters_hash is not that of its content")
    return meta


def check_directory(
    directory: str,
    kind: str,
    tokens: Iterable[str],
    expected: Mapping[str, Any] | None = None,
    dataset: str = "DATASET",
) -> dict[str, Any]:
    """Checks a directory of labels before long work and returns its meta.json.

    The directory is listed, and no label file opened: each is checked when it is read.

    Args:
        tokens: of the frames whose files must be there; none: not listed.
        expected: part of meta.json that must be equal, nested as there, for instance
            `{"parameters": {"point_per_class": 1}, "classes": [...]}`. Dataclasses are taken too.
        dataset: see `read_meta`.
    Raises UserError: directory or meta.json missing or of another kind, first key that differs, first missing file.
    """
    meta = read_meta(directory, kind, dataset)
    difference = None
    for name, value in (expected or {}).items():
        difference = difference or _difference(value, meta.get(name), name)
    if difference is not None:
        key, wanted, found = difference
        path = os.path.join(directory, META_NAME)
        raise foreign(path, kind, f"made with {key} = {found}, the configuration says {wanted}")
    paths = [label_path(directory, kind, token) for token in tokens]
    absent = absent_files(paths)
    if absent:
        raise missing_of_many(absent, kind, len(paths))
    return meta


def _difference(expected: Any, found: Any, name: str) -> tuple[str, Any, Any] | None:
    """`first_difference`; of a dataclass as a whole: what else was recorded differs, too, `quiet` fields are there."""
    if not dataclasses.is_dataclass(expected) or not isinstance(found, dict):
        return first_difference(plain(expected), found, name)
    quiet = {field.name: field.default for field in dataclasses.fields(expected) if field.metadata.get(QUIET)}
    wanted, found = plain(dataclasses.asdict(expected)), plain(quiet) | found  # type: ignore[arg-type]
    back = first_difference(found, wanted, name)
    return first_difference(wanted, found, name) or (back and (back[0], back[2], back[1]))


def first_difference(expected: Any, found: Any, key: str = "") -> tuple[str, Any, Any] | None:
    """The first key of `expected`, dotted, whose value in `found` differs, with both values; None where all agree."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            difference = first_difference(value, found.get(name), f"{key}.{name}" if key else name)
            if difference is not None:
                return difference
        return None
    return None if expected == found else (key, expected, found)
