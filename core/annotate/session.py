"""What is asked and what was answered. The journal is the only state: all else is read from it at the start."""

import secrets
import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.annotate.cutting import cut_action
from core.annotate.frames import Frames, OpenFrame
from core.annotate.progress import Repeats, agreement, cost, suggested_iou
from core.annotate.queue import Suggestions, Window
from core.annotate.requests import BadRequest, class_keys, read_seconds
from core.datasets.frame import ClassTable
from core.errors import UserError
from core.labeling.annotation.clicks import ProposedWindow, check_answer
from core.labeling.annotation.journal import (
    FORMAT,
    Answer,
    Cut,
    Key,
    Point,
    State,
    append,
    class_ids,
    label_action,
    read_journal,
)


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
        suggestions: Suggestions,
        frames: Frames,
        journal: str,
        who: str,
        num_points: int,
        repeat: float = 0.0,
    ) -> None:
        """Reads the journal.

        Args:
            queue: (index of the window, component) in the order in which to ask for them.
            num_points: that labels are wanted for.
            repeat: share of the answers after which an earlier component comes up again, unannounced.

        Raises:
            UserError: the journal is broken or names unknown classes.
        """
        self._classes, self._windows, self._queue, self._suggestions = classes, windows, queue, suggestions
        self._frames, self._journal, self._who, self._num_points = frames, journal, who, num_points
        self._keys = class_keys(classes)
        self._index = {window.token: i for i, window in enumerate(windows)}
        self._window_of = {token: window for window in windows for token in window.frames}
        self._history = read_journal(journal)
        for answer in self._history.answers.values():
            class_ids(journal, answer, classes.names)
        answered = sorted(self._history.answers, key=lambda key: self._history.answers[key].line)
        own = [key for key in answered if self._stands(key)]
        self._repeats = Repeats(repeat, own, len(own))
        self._lock = Lock()
        self._changed: list[tuple[list[Key], bool]] = []

    @property
    def changed_since(self) -> int:
        """Number of answers to components that were proposed anew since."""
        return sum(key[0] in self._index and not self._stands(key) for key in self._history.answers)

    def _stands(self, key: Key) -> bool:
        """Whether there is an answer to a component, and to what is proposed now."""
        answer = self._history.states.get(key, State()).answer
        return key[0] in self._index and answer is not None and answer.proposal == self._window_of[key[0]].identity

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
                "queue": self._whole_queue(),
                "suggestions": [
                    [self._index[window], k, found.label, round(found.confidence, 3)]
                    for (window, k), found in self._suggestions.of.items()
                ],
                "states": self._states(self._history.states),
                **self._progress(),
            }

    def since(self, revision: int) -> dict[str, Any]:
        """What has changed since an earlier revision; "cut": components were, or are no more."""
        with self._lock:
            changed = self._changed[max(revision, 0) :]
            keys = {key for keys, _ in changed for key in keys}
            return {"states": self._states(keys), "cut": any(cut for _, cut in changed), **self._progress()}

    def component(self, window: str, component: int, frame: str | None = None) -> dict[str, Any]:
        """Where a component is: {"frame": the one to show (by default with most of its points), "counts": [points in
        each frame of its window], "pictures": see `OpenFrame.pictures`}."""
        proposed = self._window(window, component)
        counts = [len(self._open(token, proposed).rows(component)) for token in proposed.frames]
        if frame is None:
            frame = proposed.frames[max(range(len(counts)), key=counts.__getitem__)]
        if frame not in proposed.frames:
            raise BadRequest("frame: not of this window")
        return {"frame": frame, "counts": counts, "pictures": self._open(frame, proposed).pictures(component)}

    def act(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out an action: on disk in the journal first.

        Args:
            request: {"action": label, repeat, skip, clear, cut, undo or redo; "window", "component" but for the last
                two}; for label, and repeat (a second answer, see "again"), "classes": [names], "complete", "points":
                [{"frame", "row", "class"}] and "seconds"; without points the most central one of "frame" stands for
                the only class; for cut see `cut_action`. {"action": "ground", "window", "classes": [name], "seconds"}
                labels all ground of a window that has no answer yet; one undo takes it back.

        Returns:
            As `since`, with "component": [index of its window, component] that changed, or None; "again": the same of
            one to ask for next as if it had no answer, or None.

        Raises:
            BadRequest: it is none, or does not fit the proposals; UserError: it cannot be written.
        """
        actions = self._ground(request) if request.get("action") == "ground" else [self._action(request)]
        with self._lock:
            before = sum(map(len, self._history.cuts.values()))
            append(self._journal, actions)
            keys = [key for action in actions for key in self._history.apply(action, 0)]
            cut = before != sum(map(len, self._history.cuts.values()))
            self._changed.append((keys, cut))
            known = [[self._index[window], k] for window, k in keys if window in self._index]
            again = None
            if request.get("action") == "label":
                again = self._repeats.after(keys[0], self._history.states)
            return {
                "component": known[-1] if known else None,
                "again": again and [self._index[again[0]], again[1]],
                "states": self._states(keys),
                "cut": cut,
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
        if kind == "cut":
            return {**now, **cut_action(request, component, window, self._cuts(window), self._frames)}
        if kind == "repeat" and not self._stands((window.token, component)):
            kind = "label"  # another page has taken the first answer back
        if kind not in ("label", "repeat"):
            raise BadRequest("action: expected label, repeat, skip, clear, cut, undo or redo")
        answer = self._answer(request, window, component)
        return label_action(answer, self._who, time.time(), read_seconds(request.get("seconds"))) | {"action": kind}

    def _ground(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        window = self._window(request.get("window"), 0)
        opened = {token: self._open(token, window) for token in window.frames}
        proposal = opened[window.frames[0]].proposal
        answered = self._history.answers
        actions = []
        for k in map(int, np.flatnonzero(proposal.ground & (proposal.sizes > 0))):
            given = answered.get((window.token, k))
            if given is None or given.proposal != window.identity:
                frame = max(opened, key=lambda token: len(opened[token].rows(k)))
                actions.append(self._action({**request, "action": "label", "component": k, "frame": frame}))
        if not actions:
            raise BadRequest("all ground patches here are labelled")
        batch = secrets.token_hex(4)
        untimed = [{**action, "seconds": None} for action in actions[1:]]  # one decision
        return [{**action, "batch": batch} for action in (actions[0], *untimed)]

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
        opened = [self._open(token, window) for token in dict.fromkeys(point.frame for point in found)]
        proposed = ProposedWindow([o.frame for o in opened], [o.proposal for o in opened])
        try:
            check_answer(self._journal, answer, proposed)
        except UserError:
            raise BadRequest("points: not of this component") from None
        return answer

    def _central(self, frame: Any, window: Window, component: int, classes: Sequence[str]) -> dict[str, Any]:
        if len(classes) != 1 or frame not in window.frames:
            raise BadRequest("points: needed for several classes; else frame, one of the window's")
        return {"frame": frame, "row": self._open(frame, window).central_row(component), "class": classes[0]}

    def _point(self, point: Mapping[str, Any], window: Window) -> Point:
        frame, row, name = point.get("frame"), point.get("row"), point.get("class")
        if frame not in window.frames or type(row) is not int or not isinstance(name, str):
            raise BadRequest("points: expected frame, row and class of each")
        return Point(frame, self._frames.open(frame).proposal.cloud, row, name)

    def _window(self, token: Any, component: Any) -> Window:
        if not isinstance(token, str) or token not in self._index or type(component) is not int:
            raise BadRequest("window, component: not proposed")
        window = self._windows[self._index[token]]
        if not 0 <= component < len(window.sizes) + len(self._cuts(window)):
            raise BadRequest("component: not proposed")
        return window

    def _cuts(self, window: Window) -> tuple[Cut, ...]:
        return tuple(cut for cut in self._history.cuts.get(window.token, ()) if cut.proposal == window.identity)

    def _open(self, token: str, window: Window) -> OpenFrame:
        return self._frames.open_cut(token, window.frames, self._cuts(window))

    def frame(self, token: str) -> bytes:
        """Content of a frame, see `OpenFrame.content`, after the cuts of its window."""
        with self._lock:
            return self._open(token, self._window_of[token]).content()

    def _sizes(self, window: Window) -> NDArray[np.int64]:
        return self._open(window.frames[0], window).proposal.sizes if self._cuts(window) else window.sizes

    def _whole_queue(self) -> list[list[int]]:
        """[index of the window, component, points]; what was cut off a component follows it."""
        found: list[list[int]] = []
        parts: dict[tuple[int, int], list[int]] = {}
        sizes = [self._sizes(window) for window in self._windows]
        for i, window in enumerate(self._windows):
            for part, cut in enumerate(self._cuts(window), len(window.sizes)):
                parts.setdefault((i, cut.component), []).append(part)
        waiting = list(reversed(self._queue))
        while waiting:
            i, k = waiting.pop()
            found.append([i, k, int(sizes[i][k])])
            waiting += [(i, part) for part in reversed(parts.get((i, k), []))]
        return found

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
        found = {"classes": classes, "complete": answer.complete, "points": points, "skipped": state.skipped}
        if state.again is not None:
            found["again"] = [self._classes.names.index(name) for name in state.again.classes]
        return found

    def _progress(self) -> dict[str, Any]:
        standing = {key: state for key, state in self._history.states.items() if self._stands(key)}
        sizes = {key: int(self._sizes(self._window_of[key[0]])[key[1]]) for key in standing}
        statistics = {
            **cost(standing, sizes),
            "all_components": len(self._queue) + sum(len(self._cuts(window)) for window in self._windows),
            "all_points": self._num_points,
            **agreement(standing),
            **suggested_iou(standing, sizes, self._suggestions, self._classes.names),
        }
        return {"revision": len(self._changed), "statistics": statistics}
