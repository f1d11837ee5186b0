"""What the labelling has come to: what it cost, whether repeated answers agree, how right the suggestions are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.annotate.queue import Suggestions
from core.labeling.annotation.journal import IGNORED, Key, State
from core.scores.metrics import mean_iou

SOONEST = 30
"""So many other components are answered before one comes up again."""


class Repeats:
    """Which answered components come up a second time.

    Args:
        share: of the answers that one of an earlier component is asked for again after.
        answered: components in the order in which they were answered.
    """

    def __init__(self, share: float, answered: Sequence[Key], seed: int) -> None:
        self._every = round(1 / share) if share > 0 else 0
        self._answered = dict.fromkeys(answered)
        self._count = 0
        self._rng = np.random.default_rng((seed, len(answered)))

    def after(self, answered: Key, states: Mapping[Key, State]) -> Key | None:
        """The component to ask for again after an answer to another, or None."""
        self._answered.pop(answered, None)
        self._answered[answered] = None
        self._count += 1
        if not self._every or self._count % self._every:
            return None
        long_ago = list(self._answered)[:-SOONEST]
        once = [key for key in long_ago if states[key].answer is not None and states[key].again is None]
        return once[int(self._rng.integers(len(once)))] if once else None


def cost(states: Mapping[Key, State], sizes: Mapping[Key, int]) -> dict[str, Any]:
    """What the answers took: clicked points, median seconds a component, and how many components (and ignored ones) and
    points they label."""
    answers = [state.answer for state in states.values() if state.answer is not None]
    seconds = [state.seconds for state in states.values() if state.seconds is not None]
    return {
        "clicks": sum(len(answer.points) for answer in answers),
        "median_seconds": float(np.median(seconds)) if seconds else None,
        "components": len(answers),
        "ignored": sum(answer.classes == (IGNORED,) for answer in answers),
        "points": sum(sizes.values()),
    }


def agreement(states: Mapping[Key, State]) -> dict[str, int]:
    """Of components that were answered twice: "repeated", how many; "agreed", how many with the same classes."""
    twice = [(set(s.answer.classes), set(s.again.classes)) for s in states.values() if s.answer and s.again]
    return {"repeated": len(twice), "agreed": sum(first == second for first, second in twice)}


def suggested_iou(
    states: Mapping[Key, State],
    sizes: Mapping[Key, int],
    suggestions: Suggestions,
    names: Sequence[str],
) -> dict[str, Any]:
    """How right the suggestions are about components that the network behind them has not seen labels of: those that
    were answered since it predicted, with one class. A component counts by its points.

    Args:
        states: of the components; sizes: their points.
        names: of the classes.

    Returns:
        {"judged": number of such components, "suggested_miou": %, None without one}.
    """
    confusion = np.zeros((len(names), len(names)), np.int64)
    judged = 0
    for key, state in states.items():
        answer, suggestion = state.answer, suggestions.of.get(key)
        if answer is None or suggestion is None or state.time <= suggestions.since or len(answer.classes) > 1:
            continue
        if answer.complete and answer.classes[0] != IGNORED:
            confusion[names.index(answer.classes[0]), suggestion.label] += sizes[key]
            judged += 1
    return {"judged": judged, "suggested_miou": round(100 * mean_iou(confusion), 1) if judged else None}
