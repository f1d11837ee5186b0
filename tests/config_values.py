"""Values of configuration keys, made from their declaration: some that a key does not take, its outermost ones."""

import math

from core.running.config_rules import Choice, Flag, List, Number, Text, Tuple


def wrong_values(rule):
    """Values that the rule does not take."""
    makers = {Flag: _wrong_flags, Text: _wrong_texts, Choice: _wrong_names, Number: _wrong_numbers}
    makers |= {Tuple: _wrong_tuples, List: _wrong_lists}
    yield from makers[type(rule)](rule)
    if not rule.nullable:
        yield None


def _wrong_flags(rule):
    yield from (0, 1, 0.5, "maybe", "", [True])


def _wrong_texts(rule):
    yield from (3, 0.5, True, ["a"], "a\0b")
    if not rule.empty:
        yield ""


def _wrong_names(rule):
    yield from ("nonsense", "", rule.names[0].upper(), 3, True, [rule.names[0]])


def _wrong_numbers(rule):
    yield from (math.nan, math.inf, -math.inf, 10**400, -(10**400), "much", "", True, [rule.least])
    if rule.whole:
        yield from (rule.least - 1, rule.most + 1, rule.least + 0.5, str(rule.least))
    else:
        yield rule.least if rule.above else math.nextafter(rule.least, -math.inf)
        yield rule.most if rule.below else math.nextafter(rule.most, math.inf)
        yield from ("nan", "inf", "1e999")


def _wrong_tuples(rule):
    right = lowest(rule)
    yield from ([], right[:-1], [*right, right[-1]], right[0], "text", 3)
    for place, item in enumerate(rule.items):
        for value in wrong_values(item):
            yield [*right[:place], value, *right[place + 1 :]]
    if rule.ascending:
        yield [highest(rule.items[0]), lowest(rule.items[1])]


def _wrong_lists(rule):
    yield from ("text", 3, True)
    yield from ([lowest(rule.item), value] for value in wrong_values(rule.item))


def edge_values(rule):
    """The outermost values that the rule takes; every name of a choice."""
    if isinstance(rule, Flag):
        return [False, True]
    if isinstance(rule, Choice):
        return list(rule.names)
    if isinstance(rule, List):
        return [[], [lowest(rule.item)], [highest(rule.item)]]
    return [] if isinstance(rule, Text) else [lowest(rule), highest(rule)]


def lowest(rule):
    """The least value of a number or of each place of a list; some text."""
    if isinstance(rule, Tuple):
        return [lowest(item) for item in rule.items]
    if isinstance(rule, Text):
        return "text"
    return math.nextafter(rule.least, math.inf) if rule.above else rule.least


def highest(rule):
    """The greatest one."""
    if isinstance(rule, Tuple):
        return [highest(item) for item in rule.items]
    if isinstance(rule, Text):
        return "other text"
    return math.nextafter(rule.most, -math.inf) if rule.below else rule.most
