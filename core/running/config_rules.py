"""What a configuration key takes: type, range and length, checked and told in words."""

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """The values that a key takes; this one takes any.

    Attributes:
        nullable: null is taken, too.
    """

    nullable: bool = field(default=False, kw_only=True)

    @property
    def words(self) -> str:
        """What is expected, for errors and for the table of keys: "a number from 0 to 1"."""
        return f"{self._words()} or null" if self.nullable else self._words()

    def check(self, value: Any) -> Any:
        """The value in the key's type. Raises ValueError where the key does not take it."""
        return None if self.nullable and value is None else self._check(value)

    def _words(self) -> str:
        return "any value"

    def _check(self, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class Flag(Rule):
    """true or false."""

    def _words(self) -> str:
        return "true or false"

    def _check(self, value: Any) -> bool:
        return _require(isinstance(value, bool), value)


@dataclass(frozen=True)
class Text(Rule):
    """A text, such as a path; an empty one only where `empty` is."""

    empty: bool = False

    def _words(self) -> str:
        return "a text" if self.empty else "a text that is not empty"

    def _check(self, value: Any) -> str:
        return _require(isinstance(value, str) and "\0" not in value and (self.empty or value != ""), value)


@dataclass(frozen=True)
class Choice(Rule):
    """One of a few names."""

    names: tuple[str, ...]

    def _words(self) -> str:
        return f"one of {', '.join(self.names)}"

    def _check(self, value: Any) -> str:
        return _require(value in self.names, value)


@dataclass(frozen=True)
class Number(Rule):
    """A finite number; YAML's '1e-4', which is a text, is one too.

    Attributes:
        least, most: bounds.
        above, below: the lower, the upper bound is not taken itself.
        whole: an integer is expected.
    """

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def _words(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.least):
            return kind
        low, high = (str(bound).removesuffix(".0") for bound in (self.least, self.most))
        if self.above or self.below:
            return f"{kind} {'above' if self.above else 'from'} {low}, {'below' if self.below else 'at most'} {high}"
        return f"{kind} from {low} to {high}"

    def _check(self, value: Any) -> int | float:
        if self.whole:
            _require(type(value) is int, value)
        else:
            _require(isinstance(value, int | float | str) and not isinstance(value, bool), value)
            try:
                value = float(value)
            except OverflowError:
                raise ValueError(value) from None
            _require(math.isfinite(value), value)
        _require(value > self.least if self.above else value >= self.least, value)
        return _require(value < self.most if self.below else value <= self.most, value)


@dataclass(frozen=True)
class Tuple(Rule):
    """A list with one rule for each place; `ascending`: none is below the one before."""

    items: tuple[Rule, ...]
    ascending: bool = False

    def _words(self) -> str:
        kinds = [item.words for item in self.items]
        what = f"each {kinds[0]}" if len(set(kinds)) == 1 else "; ".join(kinds)
        return f"a list of {len(kinds)}: {what}{', in ascending order' if self.ascending else ''}"

    def _check(self, value: Any) -> list[Any]:
        _require(isinstance(value, list) and len(value) == len(self.items), value)
        checked = [rule.check(item) for rule, item in zip(self.items, value, strict=True)]
        return _require(not self.ascending or checked == sorted(checked), checked)


@dataclass(frozen=True)
class List(Rule):
    """A list of any length with the same rule for all."""

    item: Rule

    def _words(self) -> str:
        return "a list" if type(self.item) is Rule else f"a list, each {self.item.words}"

    def _check(self, value: Any) -> list[Any]:
        return [self.item.check(item) for item in _require(isinstance(value, list), value)]


def _require(holds: bool, value: Any) -> Any:
    if not holds:
        raise ValueError(value)
    return value


def rule_like(default: Any) -> Rule:
    """The rule of a key that none is declared for: its default's type; any value where the default is null."""
    if isinstance(default, list):
        return List(Rule())
    rules = {bool: Flag(), int: Number(whole=True), float: Number(), str: Text(empty=True)}
    return rules.get(type(default), Rule(nullable=True))


def whole(least: int, most: int, nullable: bool = False) -> Rule:
    """A whole number, least <= value <= most."""
    return Number(least, most, whole=True, nullable=nullable)
