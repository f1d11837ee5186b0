"""What is asked and what was answered. The journal is the only state: all else is read from it at the start."""

import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from core.annotate.frames import Frames
from core.annotate.queue import Suggestion, Window
from core.datasets.frame import CLASS_KEYS, ClassTable
from core.errors import UserError
from core.labeling.annotation.clicks import ProposedWindow, check_answer, human_statistics
from core.labeling.annotation.journal import (
    FORMAT,
    IGNORED,
    Answer,
    Key,
    Point,
    State,
    append,
    class_ids,
    label_action,
    read_journal,
)

COMMAND_KEYS = "hmsx?+-"
"""Keys that are no class's."""
LONGEST = 600.0
"""s; who takes longer was away, and no time is noted."""


class BadRequest(ValueError):
    """A request that is not one of the page's; its text says why."""


def class_keys(classes: ClassTable) -> tuple[str, ...]:
    """The key of each class, "" for the ignored one; UserError where one is a command's."""
    keys = classes.keys or ("", *CLASS_KEYS[: classes.num_classes - 1])
    for name, key in zip(classes.names, keys, strict=True):
        if key and key.lower() in COMMAND_KEYS:
            raise UserError(f"key of class '{name}': '{key}' is a command of the page; choose none of {COMMAND_KEYS}")
    return tuple(key.lower() for key in keys)


class Session:
    """The components, their order, and the answers; any thread may ask.

    Attributes:
        revision: number of actions so far; a page that knows an older one asks what has changed since.
    """

    def __init__(
        self,
        classes: ClassTable,
        windows: Sequence[Window],
        queue: Sequence[tuple[int, int]],
        suggestions: Mapping[Key, Suggestion],
        frames: Frames,
        journal: str,
        who: str,
        num_points: int,
    ) -> None:
        """Reads the journal.

        Args:
            queue: (index of the window, component) in the order in which to ask for them.
            num_points: that labels are wanted for.

        Raises:
            UserError: the journal is broken or names unknown classes.
        """
        self._classes, self._windows, self._queue, self._suggestions = classes, windows, queue, suggestions
        self._frames, self._journal, self._who, self._num_points = frames, journal, who, num_points
        self._keys = class_keys(classes)
        self._index = {window.token: i for i, window in enumerate(windows)}
        self._history = read_journal(journal)
        for answer in self._history.answers.values():
            class_ids(journal, answer, classes.names)
        self._lock = Lock()
        self._changed: list[Key | None] = []

    @property
    def changed_since(self) -> int:
        """Number of answers to components that were proposed anew since."""
        return sum(
            answer.window in self._index and answer.proposal != self._windows[self._index[answer.window]].identity
            for answer in self._history.answers.values()
        )

    def overview(self) -> dict[str, Any]:
        """All that the page needs to begin."""
        names, colors = self._classes.names, self._classes.colors
        with self._lock:
            return {
                "classes": [
                    {"id": i, "name": names[i], "key": self._keys[i], "color": colors[i].tolist()}
                    for i in range(1, len(names))
                ],
                "windows": [
                    {"token": w.token, "frames": list(w.frames), "ground": w.num_ground} for w in self._windows
                ],
                "queue": [[i, k, int(self._windows[i].sizes[k])] for i, k in self._queue],
                "suggestions": [
                    [self._index[window], k, found.label, round(found.confidence, 3)]
                    for (window, k), found in self._suggestions.items()
                ],
                "states": self._states(self._history.states),
                **self._progress(),
            }

    def since(self, revision: int) -> dict[str, Any]:
        """What has changed since an earlier revision."""
        with self._lock:
            keys = {key for key in self._changed[max(revision, 0) :] if key is not None}
            return {"states": self._states(keys), **self._progress()}

    def component(self, window: str, component: int, frame: str | None = None) -> dict[str, Any]:
        """Where a component is: {"frame": the one to show (by default with most of its points), "counts": [points in
        each frame of its window], "pictures": see `OpenFrame.pictures`}."""
        proposed = self._window(window, component)
        counts = [len(self._frames.open(token).rows(component)) for token in proposed.frames]
        if frame is None:
            frame = proposed.frames[max(range(len(counts)), key=counts.__getitem__)]
        if frame not in proposed.frames:
            raise BadRequest("frame: not of this window")
        return {"frame": frame, "counts": counts, "pictures": self._frames.open(frame).pictures(component)}

    def act(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out an action: on disk in the journal first.

        Args:
            request: {"action": label, skip, clear, undo or redo; "window", "component" but for the last two; for label
                "classes": [names], "complete", "points": [{"frame", "row", "class"}] and "seconds"}. Without points the
                most central one of "frame" stands for the only class.

        Returns:
            As `since`, with "component": [index of its window, component] that changed, or None.

        Raises:
            BadRequest: it is none, or does not fit the proposals; UserError: it cannot be written.
        """
        action = self._action(request)
        with self._lock:
            append(self._journal, [action])
            key = self._history.apply(action, 0)
            self._changed.append(key)
            known = key is not None and key[0] in self._index
            return {
                "component": [self._index[key[0]], key[1]] if known and key is not None else None,
                "states": self._states([key] if key is not None else []),
                **self._progress(),
            }

    def _action(self, request: Mapping[str, Any]) -> dict[str, Any]:
        kind = request.get("action")
        now = {"format": FORMAT, "time": round(time.time(), 3), "who": self._who, "action": kind}
        if kind in ("undo", "redo"):
            return now
        window = self._window(request.get("window"), request.get("component"))
        component = int(request["component"])
        if kind in ("skip", "clear"):
            return {**now, "window": window.token, "component": component}
        if kind != "label":
            raise BadRequest("action: expected label, skip, clear, undo or redo")
        answer = self._answer(request, window, component)
        return label_action(answer, self._who, time.time(), _seconds(request.get("seconds")))

    def _answer(self, request: Mapping[str, Any], window: Window, component: int) -> Answer:
        classes, complete = request.get("classes"), request.get("complete", True)
        names = self._classes.names
        if not isinstance(classes, list) or not classes or any(name not in names for name in classes):
            raise BadRequest("classes: expected a list of the data set's classes")
        if not isinstance(complete, bool):
            raise BadRequest("complete: expected true or false")
        points = request.get("points")
        if points is None:
            points = [self._central(request.get("frame"), window, component, classes)]
        found = tuple(self._point(point, window) for point in points if isinstance(point, dict))
        if len(found) != len(points) or {point.label for point in found} != set(classes):
            raise BadRequest("points: expected one of each class at least, and none of others")
        unique = tuple(dict.fromkeys(classes))
        answer = Answer(window.token, component, window.identity, unique, found, complete)
        opened = [self._frames.open(token) for token in dict.fromkeys(point.frame for point in found)]
        proposed = ProposedWindow([o.frame for o in opened], [o.proposal for o in opened])
        try:
            check_answer(self._journal, answer, proposed)
        except UserError:
            raise BadRequest("points: not of this component") from None
        return answer

    def _central(self, frame: Any, window: Window, component: int, classes: Sequence[str]) -> dict[str, Any]:
        if len(classes) != 1 or frame not in window.frames:
            raise BadRequest("points: needed for several classes; else frame, one of the window's")
        return {"frame": frame, "row": self._frames.open(frame).central_row(component), "class": classes[0]}

    def _point(self, point: Mapping[str, Any], window: Window) -> Point:
        frame, row, name = point.get("frame"), point.get("row"), point.get("class")
        if frame not in window.frames or type(row) is not int or not isinstance(name, str):
            raise BadRequest("points: expected frame, row and class of each")
        return Point(frame, self._frames.open(frame).proposal.cloud, row, name)

    def _window(self, token: Any, component: Any) -> Window:
        if not isinstance(token, str) or token not in self._index or type(component) is not int:
            raise BadRequest("window, component: not proposed")
        window = self._windows[self._index[token]]
        if not 0 <= component < len(window.sizes):
            raise BadRequest("component: not proposed")
        return window

    def _states(self, keys: Any) -> list[list[Any]]:
        """[index of the window, component, state] of components; the state is None where nothing is known."""
        states = self._history.states
        return [
            [self._index[key[0]], key[1], self._state(states.get(key, State()), self._windows[self._index[key[0]]])]
            for key in keys
            if key[0] in self._index
        ]

    def _state(self, state: State, window: Window) -> dict[str, Any] | None:
        answer = state.answer if state.answer is not None and state.answer.proposal == window.identity else None
        if answer is None:
            return {"skipped": True} if state.skipped else None
        points = [{"frame": p.frame, "row": p.row, "class": p.label} for p in answer.points]
        classes = [self._classes.names.index(name) for name in answer.classes]
        return {"classes": classes, "complete": answer.complete, "points": points, "skipped": state.skipped}

    def _progress(self) -> dict[str, Any]:
        standing = {
            key: answer
            for key, answer in self._history.answers.items()
            if key[0] in self._index and answer.proposal == self._windows[self._index[key[0]]].identity
        }
        points = sum(int(self._windows[self._index[window]].sizes[k]) for window, k in standing)
        known = human_statistics(self._history)
        statistics = {
            "clicks": sum(len(answer.points) for answer in standing.values()),
            "median_seconds": known["median_seconds"],
            "components": len(standing),
            "all_components": len(self._queue),
            "ignored": sum(answer.classes == (IGNORED,) for answer in standing.values()),
            "points": points,
            "all_points": self._num_points,
        }
        return {"revision": len(self._changed), "statistics": statistics}


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not value >= 0:
        raise BadRequest("seconds: expected a number from 0 on")
    return round(float(value), 2) if value <= LONGEST else None
