"""The tables of configuration keys in docs/configuration.md: `python3 -m core.running.config_table` writes them."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from core.running.config_keys import KEYS
from core.running.config_rules import rule_like
from core.running.files import write_atomic

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATH = os.path.join(ROOT, "docs", "configuration.md")
MARK = "<!-- generated from here on by python3 -m core.running.config_table: do not edit -->\n"
"""What stands before it in docs/configuration.md is written by hand."""


@dataclass(frozen=True)
class Entry:
    """A key as a default.yaml holds it.

    Attributes:
        key: dotted.
        default: its value there.
        meaning: the comment above it, in one line; empty where there is none.
        section: its top-level key, or the heading ("# --- ...") that it stands below.
    """

    key: str
    default: Any
    meaning: str
    section: str


def entries(path: str) -> list[Entry]:
    """The keys of a YAML file, in its order."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    keys = dict(_lines_of_keys(yaml.compose(text)))
    found, comment, heading = [], list[str](), ""
    for number, line in enumerate(text.splitlines()):
        words = line.strip()
        if words.startswith("# ---"):
            comment, heading = [], words.strip("#- ")
        elif words.startswith("#"):
            comment.append(words.lstrip("# "))
        else:
            if number in keys:
                key, default = keys[number]
                heading = heading if line.startswith(" ") else ""
                folder = key.split(".")[0] if "." in key else "all steps"
                section = f"{folder}: {heading}" if heading else folder
                found.append(Entry(key, default, " ".join(comment), section))
            elif words and not line.startswith(" "):
                heading = ""  # another top-level key
            comment = []
    return found


def _lines_of_keys(node: Any, prefix: str = "") -> Iterator[tuple[int, tuple[str, Any]]]:
    """(line, (dotted key, value)) of each key of a mapping that holds a value."""
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode):
            yield from _lines_of_keys(value, f"{name}.")
        else:
            yield key.start_mark.line, (name, yaml.safe_load(yaml.serialize(value)))


def table() -> str:
    """docs/configuration.md: its introduction as it is, and the tables."""
    with open(PATH, encoding="utf-8") as file:
        introduction = file.read().partition(MARK)[0] + MARK
    common = entries(os.path.join(ROOT, "configs", "default.yaml"))
    known = {entry.key for entry in common}
    data_sets = {_folder(path): entries(path) for path in sorted(glob.glob(f"{ROOT}/configs/*/default.yaml"))}
    sections: dict[str, list[Entry]] = {}
    for entry in common:
        sections.setdefault(entry.section, []).append(entry)
    for name, own in data_sets.items():
        if new := [entry for entry in own if entry.key not in known]:
            sections[f"{name} alone"] = new
    parts = [introduction, *(_section(title, rows) for title, rows in sections.items())]
    return "\n".join([*parts, _differences({entry.key: entry.default for entry in common}, data_sets)])


def _section(title: str, rows: Sequence[Entry]) -> str:
    lines = [f"## {title}\n", "| key | default | values | meaning |", "|---|---|---|---|"]
    for entry in rows:
        words = (KEYS.get(entry.key) or rule_like(entry.default)).words
        lines.append(f"| `{entry.key}` | {_code(entry.default)} | {_cell(words)} | {_cell(entry.meaning)} |")
    return "\n".join(lines) + "\n"


def _differences(common: dict[str, Any], data_sets: dict[str, list[Entry]]) -> str:
    """The keys whose default some data set sets otherwise."""
    own = {name: {entry.key: entry.default for entry in rows} for name, rows in data_sets.items()}
    lines = ["## Defaults of the data sets\n", "Where they differ from the tables above.\n"]
    lines += ["| key | " + " | ".join(f"`configs/{name}`" for name in own) + " |", "|---" * (len(own) + 1) + "|"]
    for key, default in common.items():
        values = [defaults.get(key, default) for defaults in own.values()]
        if any(value != default for value in values):
            lines.append(f"| `{key}` | " + " | ".join(map(_code, values)) + " |")
    return "\n".join(lines) + "\n"


def _folder(path: str) -> str:
    return os.path.basename(os.path.dirname(path))


def _code(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{_cell(text)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    text = table().encode()
    with write_atomic(PATH) as file:
        file.write(text)
