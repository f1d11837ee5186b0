"""From proposals and clicks to weak labels, and the simulated annotator that clicks as a person would."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import ClassTable, Frame
from core.errors import UserError
from core.label_files.errors import PROPOSAL, label_path
from core.label_files.files import ANNOTATED_IGNORED, WeakLabel
from core.labeling.annotation.journal import Answer, History, Key, Point, class_ids
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.proposals import Proposal, cloud_hash, read_proposal
from core.labeling.annotation.simulated import annotations_per_class, noticed_classes, pick_per_group, smallest_size
from core.labeling.annotation.windows import frame_rng


@dataclass(frozen=True, eq=False)
class ProposedWindow:
    """The proposals of the frames of a window, with their points checked to be those that they were made of."""

    frames: Sequence[Frame]
    proposals: Sequence[Proposal]

    @property
    def token(self) -> str:
        """By which it is called."""
        return self.proposals[0].window

    @property
    def identity(self) -> str:
        """Hash of all that is proposed in it."""
        return self.proposals[0].identity


def read_windows(reader: Reader, directory: str, parameters_hash: str | None = None) -> Iterator[ProposedWindow]:
    """All windows of a reader's frames.

    Raises:
        UserError: proposals are missing or broken, or a point cloud has changed since they were made.
    """
    by_token = {frame.token: frame for frame in reader}
    for token in by_token:
        proposal = read_proposal(directory, token, parameters_hash=parameters_hash)
        lacking = [other for other in (proposal.window, *proposal.frames) if other not in by_token]
        if lacking:
            raise UserError(
                f"{label_path(directory, PROPOSAL, token)}: made with frame {lacking[0]}, which split '{reader.split}' "
                "does not have now; choose another proposals.path for other splits"
            )
        if proposal.window == token:
            frames = [by_token[other] for other in proposal.frames]
            yield ProposedWindow(
                frames, [checked_proposal(directory, f, reader.load_points(f), parameters_hash) for f in frames]
            )


def checked_proposal(
    directory: str, frame: Frame, points: NDArray[np.float32], parameters_hash: str | None
) -> Proposal:
    """The proposals of a frame; UserError unless they were made of these points [N, >= 3]."""
    proposal = read_proposal(directory, frame.token, parameters_hash=parameters_hash)
    found = cloud_hash(points)
    if len(points) != len(proposal.component) or found != proposal.cloud:
        raise UserError(
            f"{frame.lidar_path}: changed since its proposals were made (hash {proposal.cloud}, now {found}); restore "
            f"it, or remove {label_path(directory, PROPOSAL, frame.token)}, make proposals again and click anew"
        )
    return proposal


def check_answer(journal: str, answer: Answer, window: ProposedWindow) -> None:
    """Raises UserError for clicks on a cloud or components that have changed since, or on points that are not there."""
    where = f"{journal}: line {answer.line}"
    by_token = {f.token: p for f, p in zip(window.frames, window.proposals, strict=True)}
    for point in answer.points:
        proposal = by_token.get(point.frame)
        if proposal is None or not 0 <= point.row < len(proposal.component):
            raise UserError(
                f"{where} clicks on point {point.row} of {point.frame}, which is not there; remove the line"
            )
        if point.cloud != proposal.cloud:
            path = next(f.lidar_path for f in window.frames if f.token == point.frame)
            raise UserError(
                f"{where} is of another {path} (hash {point.cloud}, now {proposal.cloud}); restore it, or leave such "
                "lines out with --skip-changed"
            )
    if answer.proposal != window.identity or answer.component >= len(window.proposals[0].sizes):
        raise UserError(
            f"{where} is of other components of {window.token} (hash {answer.proposal}, now {window.identity}); "
            "restore the proposals, or leave such lines out with --skip-changed"
        )
    for point in answer.points:
        if by_token[point.frame].component[point.row] != answer.component:
            raise UserError(f"{where} clicks on a point of another component; remove the line")


def labels_of_window(
    journal: str,
    window: ProposedWindow,
    answers: Mapping[Key, Answer],
    classes: ClassTable,
    parameters: WeakLabelParameters,
) -> list[WeakLabel]:
    """The weak labels of a window's frames, from the answers to its components.

    A component of one class is propagated; of several that are said to be all, it has candidates; else its clicked
    points alone are labelled. Components too small for their classes are left out, as the simulated annotator does.
    """
    sizes, ground = window.proposals[0].sizes, window.proposals[0].ground
    only, candidates = np.zeros(len(sizes), np.uint8), np.zeros(len(sizes), np.uint32)
    kept = np.zeros(len(sizes), bool)
    clicked: list[Point] = []
    for component in range(len(sizes)):
        answer = answers.get((window.token, component))
        if answer is None:
            continue
        ids = class_ids(journal, answer, classes.names)
        if not ground[component] and _is_small(ids, int(sizes[component]), classes, parameters):
            continue
        clicked += answer.points
        kept[component] = answer.complete
        if answer.complete and len(ids) == 1:
            only[component] = ids[0]
        elif answer.complete:
            candidates[component] = sum(1 << i for i in ids)
    return [
        _frame_label(frame.token, proposal.component, only, candidates, kept, clicked, classes.names)
        for frame, proposal in zip(window.frames, window.proposals, strict=True)
    ]


def _is_small(ids: Sequence[int], size: int, classes: ClassTable, parameters: WeakLabelParameters) -> bool:
    present = np.zeros((1, classes.num_classes), bool)
    present[0, list(ids)] = True
    return size < int(smallest_size(present, classes.things, parameters)[0])


def _frame_label(
    token: str,
    component: NDArray[np.int32],
    only: NDArray[np.uint8],
    candidates: NDArray[np.uint32],
    kept: NDArray[np.bool_],
    clicked: Sequence[Point],
    names: Sequence[str],
) -> WeakLabel:
    sparse = np.zeros(len(component), np.uint8)
    for point in clicked:
        if point.frame == token:
            sparse[point.row] = names.index(point.label) or ANNOTATED_IGNORED
    here = np.zeros(len(kept), bool)
    here[component[component >= 0]] = True
    kept = kept & here
    new_id = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)  # the last serves component -1
    return WeakLabel(sparse, np.append(only, np.uint8(0))[component], new_id[component], candidates[kept])


def simulated_answers(
    reader: Reader, window: ProposedWindow, history: History, parameters: WeakLabelParameters, seed: int
) -> Iterator[Answer]:
    """Answers to a window's components that have none yet, from the dense labels, largest component first.

    The annotator overlooks classes that are rare in a component, and clicks random points.
    """
    rng = frame_rng(seed, window.token)
    components = [proposal.component for proposal in window.proposals]
    labels = [reader.load_labels(f, len(c)) for f, c in zip(window.frames, components, strict=True)]
    component, label = np.concatenate(components), np.concatenate(labels)
    owner = np.repeat(np.arange(len(components)), [len(c) for c in components])
    row = np.concatenate([np.arange(len(c)) for c in components])

    num_classes, first = reader.classes.num_classes, window.proposals[0]
    inside = np.flatnonzero(component >= 0)
    group = component[inside].astype(np.int64) * num_classes + label[inside]
    counts = np.bincount(group, minlength=len(first.sizes) * num_classes).reshape(-1, num_classes)
    noticed = noticed_classes(counts, first.num_ground, reader.classes.things, parameters)
    noticed[~(counts[:, 1:] > 0).any(1)] = False  # of the ignored class alone
    quota = annotations_per_class(noticed, parameters.point_per_class)
    picked = inside[pick_per_group(group, quota.ravel(), rng)]
    of_component: dict[int, list[int]] = {}
    for i in picked:
        of_component.setdefault(int(component[i]), []).append(int(i))

    for k in map(int, first.queue(min(parameters.small_component_sizes))):
        if (window.token, k) not in history.answers and k in of_component:
            points = tuple(
                _point(window, reader.classes, int(owner[i]), int(row[i]), int(label[i])) for i in of_component[k]
            )
            names = tuple(dict.fromkeys(point.label for point in points))
            yield Answer(window.token, k, window.identity, names, points)


def _point(window: ProposedWindow, classes: ClassTable, owner: int, row: int, label: int) -> Point:
    return Point(window.frames[owner].token, window.proposals[owner].cloud, row, classes.names[label])


def human_statistics(history: History) -> dict[str, Any]:
    """Who answered how much, and how long it took."""
    standing = [state for state in history.states.values() if state.answer is not None]
    seconds = [state.seconds for state in standing if state.seconds is not None]
    return {
        "annotator": "human",
        "people": sorted({state.who for state in standing}),
        "components": len(standing),
        "clicks": history.clicks,
        "median_seconds": float(np.median(seconds)) if seconds else None,
    }
