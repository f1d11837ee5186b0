"""The journal of clicks: append-only, one JSON line an action; what is known of each component follows from them."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torchpack.utils.logging import logger

from core.errors import UserError
from core.label_files.errors import writing

FORMAT = 1
IGNORED = "ignored"
"""Name of the ignored class."""
Key = tuple[str, int]
"""Window and component."""


@dataclass(frozen=True)
class Point:
    """One clicked point.

    Attributes:
        frame: token of its frame; cloud: hash of that frame's points (`proposals.cloud_hash`).
        row: of the point among those that the reader gives.
        label: name of its class.
    """

    frame: str
    cloud: str
    row: int
    label: str


@dataclass(frozen=True)
class Answer:
    """What an annotator said of a component.

    Attributes:
        window, component: which one; proposal: hash of what was proposed in the window.
        classes: names of the classes in it.
        points: clicked points, at least one for each class.
        complete: the listed classes are all that are in it. One class that is not complete labels its points alone.
        line: of the journal, from 1.
    """

    window: str
    component: int
    proposal: str
    classes: tuple[str, ...]
    points: tuple[Point, ...]
    complete: bool = True
    line: int = 0


@dataclass(frozen=True)
class State:
    """What is known of a component.

    Attributes:
        answer: that stands, or None.
        seconds: that it took, where that is known; who: gave it; time: when, seconds since 1970.
        skipped: left for later, after what was said before.
        again: a second answer, asked for unannounced to see whether both agree. It labels nothing.
    """

    answer: Answer | None = None
    seconds: float | None = None
    who: str = ""
    skipped: bool = False
    time: float = 0.0
    again: Answer | None = None


@dataclass(frozen=True)
class Cut:
    """A component that was cut in two by a plane (see `cuts.cut_proposals`).

    Attributes:
        window, component: which one; proposal: hash of what was proposed in the window.
        planes: (a, b, c, d) in the coordinates of each frame of the window; in front is ax + by + cz + d > 0.
        line: of the journal, from 1.
    """

    window: str
    component: int
    proposal: str
    planes: Mapping[str, tuple[float, ...]]
    line: int = 0


@dataclass(frozen=True)
class _Change:
    """What an action did, or its undoing: the component, what was known of it before, and the cut, if it was one.
    Changes of one batch are taken back together."""

    key: Key
    before: State
    cut: Cut | None
    batch: str | None


@dataclass
class History:
    """What the lines of a journal add up to.

    Attributes:
        states: of each component that an action was about.
        cuts: of each window, in order.
    """

    states: dict[Key, State] = field(default_factory=dict)
    cuts: dict[str, list[Cut]] = field(default_factory=dict)
    _done: list[_Change] = field(default_factory=list)
    _undone: list[_Change] = field(default_factory=list)

    @property
    def answers(self) -> dict[Key, Answer]:
        """The answers that stand."""
        return {key: state.answer for key, state in self.states.items() if state.answer is not None}

    @property
    def clicks(self) -> int:
        """Number of points clicked for the answers that stand."""
        return sum(len(answer.points) for answer in self.answers.values())

    def apply(self, action: Mapping[str, Any], line: int) -> list[Key]:
        """Adds one action: label, repeat, skip, clear, cut, undo or redo; undo takes back the last one that is not
        taken back, with all others of its batch.

        Returns:
            The components that it changed; none where there was nothing to undo or redo.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        kind = action["action"]
        if kind in ("undo", "redo"):
            return self._turn_back(kind)
        key = (str(action["window"]), int(action["component"]))
        cut = None
        if kind == "label":
            seconds = action.get("seconds")
            taken = None if seconds is None else float(seconds)
            state = State(_answer(action, line), taken, str(action.get("who", "")), time=float(action.get("time", 0)))
        elif kind == "repeat":
            state = replace(self.states.get(key, State()), again=_answer(action, line))
        elif kind == "skip":
            state = replace(self.states.get(key, State()), skipped=True)
        elif kind == "clear":
            state = State()
        elif kind == "cut":
            state, cut = State(), _read_cut(action, line)
            self._cut(cut)
        else:
            raise ValueError(f"unknown action {kind!r}")
        batch = action.get("batch")
        self._done.append(_Change(key, self._set(key, state), cut, None if batch is None else str(batch)))
        self._undone.clear()
        return [key]

    def _turn_back(self, kind: str) -> list[Key]:
        """Undoes or redoes the last change and those of its batch."""
        source, target = (self._done, self._undone) if kind == "undo" else (self._undone, self._done)
        changed: list[Key] = []
        batch = source[-1].batch if source else None
        while source and (not changed or (batch is not None and source[-1].batch == batch)):
            change = source.pop()
            if change.cut is not None:  # the last of its window: what was done later is taken back already
                self._take_back(change.cut) if kind == "undo" else self._cut(change.cut)
            target.append(replace(change, before=self._set(change.key, change.before)))
            changed.append(change.key)
        return changed

    def _cut(self, cut: Cut) -> None:
        self.cuts.setdefault(cut.window, []).append(cut)

    def _take_back(self, cut: Cut) -> None:
        self.cuts[cut.window].pop()

    def _set(self, key: Key, state: State) -> State:
        """Puts a state in place, and returns the one before."""
        before = self.states.get(key, State())
        self.states[key] = state
        return before


def _answer(action: Mapping[str, Any], line: int) -> Answer:
    points = tuple(Point(str(p["frame"]), str(p["cloud"]), int(p["row"]), str(p["class"])) for p in action["points"])
    classes = tuple(map(str, action["classes"]))
    if not classes or {point.label for point in points} != set(classes):
        raise ValueError("its points are not of its classes")
    complete = bool(action.get("complete", True))
    return Answer(
        str(action["window"]), int(action["component"]), str(action["proposal"]), classes, points, complete, line
    )


def _read_cut(action: Mapping[str, Any], line: int) -> Cut:
    planes = {str(frame): tuple(map(float, plane)) for frame, plane in action["planes"].items()}
    if not planes or any(len(plane) != 4 or not all(map(math.isfinite, plane)) for plane in planes.values()):
        raise ValueError("its planes should be of four numbers")
    return Cut(str(action["window"]), int(action["component"]), str(action["proposal"]), planes, line)


def label_action(answer: Answer, who: str, time: float, seconds: float | None = None) -> dict[str, Any]:
    """The line of an answer.

    Args:
        time: seconds since 1970; seconds: that it took, where that is known.
    """
    points = [{"frame": p.frame, "cloud": p.cloud, "row": p.row, "class": p.label} for p in answer.points]
    return {
        "format": FORMAT,
        "time": round(time, 3),
        "seconds": seconds,
        "who": who,
        "action": "label",
        "window": answer.window,
        "component": answer.component,
        "proposal": answer.proposal,
        "classes": list(answer.classes),
        "complete": answer.complete,
        "points": points,
    }


def append(path: str, actions: Iterable[Mapping[str, Any]]) -> None:
    """Adds actions to a journal; on disk when this returns. A line that a crash cut off is closed first.

    Raises:
        UserError: it cannot be written.
    """
    with writing(path):
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "a+b") as file:
            if file.tell() and _last_byte(file) != b"\n":
                file.write(b"\n")
            file.write(b"".join(json.dumps(action).encode() + b"\n" for action in actions))
            file.flush()
            os.fsync(file.fileno())


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    byte: bytes = file.read(1)
    return byte


def read_journal(path: str) -> History:
    """What a journal says. A line that was cut off is told of and left out: nothing after it is lost.

    Raises:
        UserError: it cannot be read, or is of another format.
    """
    history = History()
    if not os.path.exists(path):
        return history
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: journal cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            _apply(path, history, number, line)
    return history


def _apply(path: str, history: History, number: int, line: bytes) -> None:
    try:
        action = json.loads(line)
    except ValueError:
        logger.warning(f"{path}: line {number} is not whole (cut off by a crash?) and is left out.")
        return
    found = action.get("format") if isinstance(action, dict) else None
    if found != FORMAT:
        raise UserError(f"{path}: line {number} is of format {found}, expected {FORMAT}: another version wrote it")
    try:
        history.apply(action, number)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: line {number} is no action ({error}); mend or remove that line") from None


def class_ids(path: str, answer: Answer, names: Sequence[str]) -> list[int]:
    """Ids of an answer's classes.

    Raises:
        UserError: a class that the table does not have.
    """
    for name in answer.classes:
        if name not in names:
            raise UserError(
                f"{path}: line {answer.line} names the class '{name}', which the data set does not have "
                f"({', '.join(names)}); rename it there or here"
            )
    return sorted(names.index(name) for name in answer.classes)
