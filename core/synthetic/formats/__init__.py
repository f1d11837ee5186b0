"""The formats that the city is written in: each is a module or package here that holds a FORMAT (see city.py)."""

import importlib
import pkgutil
from typing import Any

from core.errors import UserError


def format_names() -> list[str]:
    """Names of all formats, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find_format(name: str) -> Any:
    """The `CityFormat` of that name. Raises UserError: an unknown name."""
    if name not in format_names():
        raise UserError(f"--format {name}: unknown; known are: {', '.join(format_names())}")
    return importlib.import_module(f"{__name__}.{name}").FORMAT
