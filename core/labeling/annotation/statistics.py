"""Statistics of weak labels: per frame, and averaged over frames."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.label_files.files import WeakLabel

MAX_SCENES = 30
"""Up to so many recordings have statistics of their own."""


@dataclass(frozen=True)
class FrameStatistics:
    """Statistics of one frame's weak label.

    Attributes:
        num_points, num_in_view: points of the frame, and of those seen by a camera.
        sparse: annotated points (also those of the ignored class), share of all points.
        propagated: points with a propagated class, share of those in view.
        negative: points with candidate classes, share of those in view.
        correct, total: per class id: propagated points whose dense label agrees, and all propagated points.
    """

    num_points: int
    num_in_view: int
    sparse: float
    propagated: float
    negative: float
    correct: list[int]
    total: list[int]


def frame_statistics(
    label: WeakLabel, in_view: NDArray[np.bool_], dense: NDArray[np.uint8], num_classes: int
) -> FrameStatistics:
    """Counts the labels of one frame; `in_view` bool [N], `dense` uint8 [N]."""
    num_in_view = int(in_view.sum())
    propagated = label.propagated > 0
    agrees = propagated & (label.propagated == dense)
    return FrameStatistics(
        num_points=label.num_points,
        num_in_view=num_in_view,
        sparse=_share((label.sparse > 0).sum(), label.num_points),
        propagated=_share(propagated.sum(), num_in_view),
        negative=_share((label.point_candidates() > 0).sum(), num_in_view),
        correct=np.bincount(label.propagated[agrees], minlength=num_classes).tolist(),
        total=np.bincount(label.propagated[propagated], minlength=num_classes).tolist(),
    )


def average_statistics(frames: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> dict[str, Any]:
    """Averages the statistics of frames (FrameStatistics as mappings).

    The accuracies are averaged over the frames that have propagated points (of the class); None where no frame has.
    """
    correct = np.array([frame["correct"] for frame in frames], np.int64).reshape(-1, len(class_names))
    total = np.array([frame["total"] for frame in frames], np.int64).reshape(-1, len(class_names))
    shares = {name: _mean([frame[name] for frame in frames]) for name in ("sparse", "propagated", "negative")}
    return {
        "frames": len(frames),
        **shares,
        "propagated_accuracy": _mean_ratio(correct.sum(1), total.sum(1)),
        "propagated_accuracy_per_class": {
            name: _mean_ratio(correct[:, c], total[:, c]) for c, name in enumerate(class_names) if c > 0
        },
    }


def scene_statistics(
    frames: Sequence[Mapping[str, Any]], scenes: Sequence[str], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The averages within each recording: {scene: see `average_statistics`}; none where there is but one, or many.

    Args:
        scenes: the recording that each frame belongs to.
    """
    names = list(dict.fromkeys(scenes))
    if not 1 < len(names) <= MAX_SCENES:
        return {}
    grouped = {name: [frame for frame, scene in zip(frames, scenes, strict=True) if scene == name] for name in names}
    return {name: average_statistics(group, class_names) for name, group in grouped.items()}


def statistics_lines(statistics: Mapping[str, Any]) -> str:
    """The averages of each recording that has its own, then of all frames."""
    scenes = statistics.get("scenes", {})
    return "\n".join([*(f"{name}: {statistics_line(s)}" for name, s in scenes.items()), statistics_line(statistics)])


def statistics_line(statistics: Mapping[str, Any]) -> str:
    """The averages in one line, in the paper's terms."""
    shares = ", ".join(f"{name} {_percent(statistics[name])}" for name in ("sparse", "propagated", "negative"))
    accuracy = _percent(statistics["propagated_accuracy"])
    return f"weak labels of {statistics['frames']} frames: {shares}; propagated accuracy {accuracy}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _share(part: Any, whole: int) -> float:
    return int(part) / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _mean_ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> float | None:
    some = whole > 0
    return _mean((part[some] / whole[some]).tolist())
