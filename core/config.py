"""Loading a YAML configuration: layers, overrides, and the check that every key is a known one.

Layers, later ones winning: `default.yaml` of each folder on the way to the file, the file, further files laid over it
(`--with`), overrides on the command line. Only files named default.yaml may declare keys.
"""

import difflib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from torchpack.utils.config import Config

from core.errors import UserError

NULLABLE = ("model.imagenet_pretrain",)
"""Keys that take null although their default is something else."""


def load_config(path: str, overlays: Sequence[str] = (), overrides: Sequence[str] = ()) -> Config:
    """Loads a configuration.

    Args:
        path: YAML file.
        overlays: YAML files laid over it, in this order.
        overrides: "--key value" or "--key=value" pieces of the command line, keys with dots.
    Raises UserError for a missing file, broken YAML, an unknown key (the nearest known one is named) or a value of
    another type than the default's.
    """
    config = Config()
    for default in _defaults_of(path):
        config.update(_read_yaml(default))
    known = dict(_leaves(config.dict()))
    if not known:
        raise UserError(f"{path}: no default.yaml beside it or above it; configurations lie in configs/")
    for layer in (path, *overlays):
        _lay_over(config, known, _read_yaml(layer), layer)
    _lay_over(config, known, _parse_overrides(overrides, known), "command line")
    return config


def _defaults_of(path: str) -> list[str]:
    folder, defaults = os.path.dirname(os.path.abspath(path)), []
    while True:
        candidate = os.path.join(folder, "default.yaml")
        if os.path.exists(candidate):
            defaults.append(candidate)
        elif defaults:
            break
        if folder == os.path.dirname(folder):
            break
        folder = os.path.dirname(folder)
    return defaults[::-1]


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration; they lie in configs/") from None
    except OSError as error:
        raise UserError(f"{path}: configuration cannot be read ({error.strerror}); they lie in configs/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected keys and values, found {type(content).__name__}")
    return content


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _parse_overrides(overrides: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    pieces = list(overrides)
    while pieces:
        key = pieces.pop(0)
        if not key.startswith("--"):
            raise UserError(f"command line: unexpected '{key}'; an override is written --key value")
        if "=" in key:
            key, text = key.split("=", 1)
        elif pieces and not pieces[0].startswith("--"):
            text = pieces.pop(0)
        else:
            raise UserError(f"command line: {key} has no value; an override is written --key value")
        *folders, leaf = key[2:].split(".")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
            if not isinstance(node, dict):
                raise UserError(f"command line: {key} lies below '{folder}', which another override gives a value")
        node[leaf] = _parse_value(text, known.get(key[2:]))
    return tree


def _parse_value(text: str, default: Any) -> Any:
    """Text of the command line as YAML; for a key whose values are texts, whatever is typed (a folder called 2024)."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if isinstance(default, str) and value is not None else value


def _lay_over(config: Config, known: dict[str, Any], tree: dict[str, Any], source: str) -> None:
    for key, value in _leaves(tree):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise UserError(f"{source}: unknown key '{key}'; did you mean '{near[0]}'?")
        *folders, leaf = key.split(".")
        node = config
        for folder in folders:
            node = node[folder]
        node[leaf] = _checked(key, value, known[key], source)


def _checked(key: str, value: Any, default: Any, source: str) -> Any:
    """The value, if it is of the default's type. Integers serve as floats, and YAML's '1e-4' (a text) as a number."""
    if default is None or (value is None and key in NULLABLE):
        return value
    if isinstance(default, float) and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            pass
    if type(value) is not type(default):
        raise UserError(f"{source}: {key} should be {_kind(default)} (its default is {default!r}), found {value!r}")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return names[type(value)]
