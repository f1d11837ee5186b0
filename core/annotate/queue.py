"""Which component the page asks for next, and what a network suggests for it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """

    label: int
    confidence: float
    doubt: float


def ordered(
    windows: Sequence[Window], order: str, seed: int, suggestions: Mapping[Key, Suggestion]
) -> list[tuple[int, int]]:
    """The components of all windows as (index of the window, component) in the order in which to ask for them.

    Args:
        order: "file": window by window, the largest first; "size": the largest of all first; "random"; "uncertainty":
            the largest doubt first, those without a suggestion last.
    """
    found = [(i, int(k)) for i, window in enumerate(windows) for k in window.queue]
    if order == "size":
        found.sort(key=lambda item: -int(windows[item[0]].sizes[item[1]]))
    elif order == "random":
        found = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    elif order == "uncertainty":
        nothing = Suggestion(0, 0.0, -1.0)
        found.sort(key=lambda item: -suggestions.get((windows[item[0]].token, item[1]), nothing).doubt)
    return found


def read_suggestions(directory: str, windows: Sequence[Window], num_classes: int) -> dict[Key, Suggestion]:
    """Reads what `predict.py --uncertainty` wrote of the windows' frames; frames without a file are passed over.

    Raises:
        UserError: there is none at all; or one is broken, or of other proposals.
    """
    found: dict[Key, Suggestion] = {}
    files = 0
    for window in windows:
        paths = [os.path.join(directory, token + UNCERTAINTY) for token in window.frames]
        there = [path for path in paths if os.path.exists(path)]
        files += len(there)
        if there:
            found |= _of_window(window, there, num_classes)
    if not files:
        raise UserError(
            f"{directory}: no TOKEN{UNCERTAINTY} of the frames to label; write them with predict.py --uncertainty"
        )
    return found


def _of_window(window: Window, paths: Sequence[str], num_classes: int) -> dict[Key, Suggestion]:
    votes = np.zeros((len(window.sizes), num_classes))
    points, confidence, entropy = np.zeros((3, len(window.sizes)))
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as archive:
                identity, component, count = str(archive["identity"]), archive["component"], archive["points"]
                fields = {name: archive[name] for name in ("label", "confidence", "entropy")}
            if identity == window.identity:
                votes[component, fields["label"]] += count
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
    return {
        (window.token, int(k)): Suggestion(int(votes[k].argmax()), confidence[k] / points[k], float(entropy[k]))
        for k in np.flatnonzero(points)
    }
