"""Which component the page asks for next, and what a network suggests for it."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from core.errors import UserError
from core.labeling.annotation.journal import Key
from core.labeling.annotation.uncertainty import UNCERTAINTY


@dataclass(frozen=True)
class Window:
    """The proposals of a window, without its points.

    Attributes:
        token: by which it is called; frames: tokens of its frames.
        identity: hash of all that is proposed in it.
        sizes: int64 [K], points of each component; num_ground: the first so many are ground.
        queue: int64, the components to ask for, largest first.
    """

    token: str
    frames: tuple[str, ...]
    identity: str
    sizes: NDArray[np.int64]
    num_ground: int
    queue: NDArray[np.int64]


@dataclass(frozen=True)
class Suggestion:
    """What a network says of a component, over all frames of its window.

    Attributes:
        label: class that most of its points are predicted to be.
        confidence: mean probability of the predicted classes.
        doubt: sum of the entropies of its points, each as a share of the largest possible one.
        apart: number of its points that are predicted to be of another class than `label`.
    """

    label: int
    confidence: float
    doubt: float
    apart: float = 0.0


@dataclass(frozen=True)
class Suggestions:
    """What a network says.

    Attributes:
        of: each component.
        since: when the first of it was written, seconds since 1970: the network saw no answer that was given later.
    """

    of: Mapping[Key, Suggestion] = field(default_factory=dict)
    since: float = 0.0


@dataclass(frozen=True)
class Order:
    """How the components are sorted.

    Attributes:
        value: of a component, from its number of points and its suggestion; the largest comes first, equal ones at
            random. None: as the proposals list them.
        group: whose components come in turn, the most valuable one of each group, then the second one of each ...: of
            the window's index and the component's suggestion. None: no turns.
        suggested: needs suggestions.
    """

    value: Callable[[int, Suggestion], float] | None = None
    group: Callable[[int, Suggestion], int] | None = None
    suggested: bool = False


FILE = Order()
"""Window by window, the largest component first, as the proposals list them."""
ORDERS = {
    "file": FILE,
    "size": Order(lambda size, _: size),
    "random": Order(lambda *_: 0),
    "uncertainty": Order(lambda _, found: found.doubt, suggested=True),
}
"""What a person may choose. Others that were tried are in benchmarks/annotation.py."""
_NOTHING = Suggestion(0, 0.0, -1.0, -1.0)
"""Of components without a suggestion, which come last."""


def ordered(windows: Sequence[Window], order: Order, seed: int, suggestions: Suggestions) -> list[tuple[int, int]]:
    """The components of all windows as (index of the window, component) in the order in which to ask for them; equal
    ones as the seed has it."""
    found = [(i, int(k)) for i, window in enumerate(windows) for k in window.queue]
    value, group = order.value, order.group
    if value is None:
        return found
    found = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    said = {(i, k): suggestions.of.get((windows[i].token, k), _NOTHING) for i, k in found}
    values = {(i, k): value(int(windows[i].sizes[k]), said[i, k]) for i, k in found}
    found.sort(key=lambda item: -values[item])
    if group is None:
        return found
    seen: Counter[int] = Counter()
    turns = {}
    for item in found:
        own = group(item[0], said[item])
        turns[item] = seen[own]
        seen[own] += 1
    return sorted(found, key=turns.__getitem__)


def read_suggestions(directory: str, windows: Sequence[Window], num_classes: int) -> Suggestions:
    """Reads what `predict.py --uncertainty` wrote of the windows' frames; frames without a file are passed over.

    Raises:
        UserError: there is none at all; or one is broken, or of other proposals.
    """
    found: dict[Key, Suggestion] = {}
    written: list[float] = []
    for window in windows:
        paths = [os.path.join(directory, token + UNCERTAINTY) for token in window.frames]
        there = [path for path in paths if os.path.exists(path)]
        written += map(os.path.getmtime, there)
        if there:
            found |= _of_window(window, there, num_classes)
    if not written:
        raise UserError(
            f"{directory}: no TOKEN{UNCERTAINTY} of the frames to label; write them with predict.py --uncertainty"
        )
    return Suggestions(found, min(written))


def _of_window(window: Window, paths: Sequence[str], num_classes: int) -> dict[Key, Suggestion]:
    votes = np.zeros((len(window.sizes), num_classes))
    points, confidence, entropy = np.zeros((3, len(window.sizes)))
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as archive:
                identity, component, count = str(archive["identity"]), archive["component"], archive["points"]
                fields = {name: archive[name] for name in ("label", "confidence", "entropy", "spread")}
            if identity == window.identity:
                votes[component, fields["label"]] += count * (1 - fields["spread"])
                points[component] += count
                confidence[component] += count * fields["confidence"]
                entropy[component] += count * fields["entropy"]
        except (OSError, KeyError, ValueError, IndexError, BadZipFile) as error:
            raise UserError(f"{path}: cannot be read ({error}); run predict.py --uncertainty again") from None
        if identity != window.identity:
            raise UserError(
                f"{path}: of other components (hash {identity}, now {window.identity}); run predict.py --uncertainty "
                "again into another folder"
            )
    best, agreed = votes.argmax(1), votes.max(1)
    return {
        (window.token, int(k)): Suggestion(
            int(best[k]), float(confidence[k] / points[k]), float(entropy[k]), float(points[k] - agreed[k])
        )
        for k in np.flatnonzero(points)
    }
