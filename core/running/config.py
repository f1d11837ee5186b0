"""Loading a YAML configuration: layers, overrides, and the check that every key is a known one.

Layers, later ones winning: `default.yaml` of each folder on the way to the file, the file, further files laid over it
(`--with`), overrides on the command line. Only files named default.yaml may add keys; what a key takes is declared in
core/running/config_keys.py, and every layer's values are checked against it.
"""

import difflib
import os
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from torchpack.utils.config import Config

from core.errors import UserError
from core.running.config_keys import KEYS, conflicts
from core.running.config_rules import Choice, Rule, Text, rule_like


def load_config(path: str, overlays: Sequence[str] = (), overrides: Sequence[str] = ()) -> Config:
    """Loads a configuration.

    Args:
        path: YAML file.
        overlays: YAML files laid over it, in this order.
        overrides: "--key value" or "--key=value" pieces of the command line, keys with dots.
    Raises UserError for a missing file, broken YAML, an unknown key (the nearest known one is named), a value that its
    key does not take, or values that do not go together.
    """
    config = Config()
    for default in _defaults_of(path):
        config.update(_checked(_read_yaml(default), default))
    known = dict(_leaves(config.dict()))
    if not known:
        raise UserError(f"{path}: no default.yaml beside it or above it; configurations lie in configs/")
    for layer in (path, *overlays):
        config.update(_checked(_read_yaml(layer), layer, known))
    config.update(_checked(_parse_overrides(overrides, known), "command line", known))
    check_conflicts(config)
    return config


def check_conflicts(config: Config) -> None:
    """Raises UserError where values that are right by themselves do not go together."""
    for conflict in conflicts(dict(_leaves(config.dict()))):
        raise UserError(conflict)


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
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes, dates or numbers that are none
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
        node[leaf] = _parse_value(text, _rule(key[2:], known.get(key[2:])))
    return tree


def _parse_value(text: str, rule: Rule) -> Any:
    """Text of the command line as YAML; for a key whose values are texts, whatever is typed (a folder called 2024)."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    return text if isinstance(rule, Text | Choice) and value is not None else value


def _checked(tree: dict[str, Any], source: str, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A layer with its values in their keys' types; without `known`, the defaults, it may add keys."""
    checked: dict[str, Any] = {}
    for key, value in _leaves(tree):
        if known is not None and key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise UserError(f"{source}: unknown key '{key}'; did you mean '{near[0]}'?")
        default = value if known is None else known[key]
        rule = _rule(key, default)
        try:
            value = rule.check(value)
        except ValueError:
            remark = "" if known is None else f" (its default is {default!r})"
            raise UserError(f"{source}: {key} should be {rule.words}{remark}, found {reprlib.repr(value)}") from None
        *folders, leaf = key.split(".")
        node = checked
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = value
    return checked


def _rule(key: str, default: Any) -> Rule:
    """What a key takes: as declared; for a key of somebody else's default.yaml, values of its default's type."""
    return KEYS.get(key) or rule_like(default)
