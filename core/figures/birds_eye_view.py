"""birds_eye_view.png: a training frame with its labels, a validation frame with its predictions, from above."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.datasets.frame import ClassTable
from core.datasets.point_checks import is_valid
from core.figures.choice import most_annotated, most_classes
from core.figures.sources import Sources
from core.figures.style import (
    CANDIDATES,
    FAINT,
    INK,
    NONE,
    RIGHT,
    WRONG,
    class_colors,
    class_dots,
    dot,
    marker_size,
    new_figure,
    note,
    scatter,
)
from core.label_files.files import ANNOTATED_IGNORED, WeakLabel

WIDTH = 3.5  # of a panel, inches
SCALE_BAR = 10  # m


@dataclass(frozen=True, eq=False)
class TrainingView:
    """Labels of a training frame.

    Attributes:
        xyz: float32 [N, 3], m.
        dense: uint8 [N], ground truth, or None where it is not at hand.
        weak: annotated and propagated labels, candidates.
        pseudo: round -> uint8 [N], or None where the round is still to come.
    """

    xyz: NDArray[np.float32]
    dense: NDArray[np.uint8] | None
    weak: WeakLabel
    pseudo: Mapping[int, NDArray[np.uint8] | None]


@dataclass(frozen=True, eq=False)
class ValidationView:
    """Labels of a validation frame: xyz float32 [N, 3] (m), truth and prediction uint8 [N]."""

    xyz: NDArray[np.float32]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


def birds_eye_view_figure(sources: Sources) -> Figure:
    """The training frame with the most annotated classes in one image, the validation frame of projection.png."""
    scan, _, weak = most_annotated(sources)
    pseudo = {step_round: sources.pseudo(scan, step_round) for step_round in (1, 2)}
    training = TrainingView(scan.points[:, :3], sources.dense("train", scan), weak, pseudo)
    scan, _, truth = most_classes(sources)
    validation = ValidationView(scan.points[:, :3], truth, sources.prediction(scan))
    return draw_birds_eye_view(training, validation, sources.reader("val").classes)


def draw_birds_eye_view(training: TrainingView, validation: ValidationView, classes: ClassTable) -> Figure:
    """Two rows of panels of equal scale: the training frame's labels, the validation frame's predictions."""
    radius = view_radius([training.xyz, validation.xyz])
    figure = new_figure(4 * WIDTH, 2 * WIDTH + 0.6)
    rows = figure.subplots(2, 4)
    _draw_training(rows[0], training, classes, radius)
    _draw_validation(rows[1], validation, classes, radius)
    labels = [training.weak.propagated, validation.truth, validation.prediction]
    labels += [label for label in (training.dense, *training.pseudo.values()) if label is not None]
    _draw_legend(rows[1, 3], classes, np.unique(np.concatenate(labels)))
    return figure


def view_radius(clouds: list[NDArray[np.float32]]) -> float:
    """Half the edge of the square that is shown, m: nine tenths of the points of each frame lie in it; 15 to 50 m."""
    clouds = [xyz[is_valid(xyz)] for xyz in clouds]
    reach = max((float(np.quantile(np.abs(xyz[:, :2]).max(1), 0.9)) for xyz in clouds if len(xyz)), default=0.0)
    return float(np.clip(reach, 15.0, 50.0))


def _draw_training(row: NDArray[Any], view: TrainingView, classes: ClassTable, radius: float) -> None:
    dense, weak, *pseudo = row
    if view.dense is None:
        _draw_nothing(dense, "no ground truth at hand")
    else:
        _draw_labels(dense, view.xyz, view.dense, classes, radius)
        _draw_scale_bar(dense, radius)
    dense.set_title("training frame: ground truth")
    _draw_weak(weak, view, classes, radius)
    weak.set_title("weak labels")
    for axes, (step_round, label) in zip(pseudo, view.pseudo.items(), strict=True):
        axes.set_title(f"pseudo-labels, round {step_round}")
        if label is None:
            _draw_nothing(axes, f"E-step {step_round} is still to come")
        else:
            _draw_labels(axes, view.xyz, label, classes, radius)


def _draw_validation(row: NDArray[Any], view: ValidationView, classes: ClassTable, radius: float) -> None:
    truth, prediction, errors, _ = row
    _draw_labels(truth, view.xyz, view.truth, classes, radius)
    truth.set_title("validation frame: ground truth")
    _draw_labels(prediction, view.xyz, view.prediction, classes, radius)
    prediction.set_title("prediction")
    known, wrong = view.truth > 0, view.truth != view.prediction
    _draw_points(errors, view.xyz, [(~known, NONE), (known & ~wrong, RIGHT), (known & wrong, WRONG)], radius)
    share = 100 * np.count_nonzero(known & wrong) / max(np.count_nonzero(known), 1)
    errors.set_title(f"errors: {share:.1f} % of points")


def _draw_labels(
    axes: Axes, xyz: NDArray[np.float32], label: NDArray[np.uint8], classes: ClassTable, radius: float
) -> None:
    none = label == 0
    colors = class_colors(classes)
    _draw_points(axes, xyz, [(none, NONE), (~none, colors[label])], radius)


def _draw_weak(axes: Axes, view: TrainingView, classes: ClassTable, radius: float) -> None:
    weak, colors = view.weak, class_colors(classes)
    propagated, candidates = weak.propagated > 0, weak.point_candidates() > 0
    _draw_points(axes, view.xyz, [(~(propagated | candidates), NONE), (propagated, colors[weak.propagated])], radius)
    size = marker_size(len(view.xyz), WIDTH, WIDTH)
    scatter(axes, view.xyz[candidates, :2], 1.6 * size, CANDIDATES, marker="x", linewidths=0.4)
    annotated = (weak.sparse > 0) & (np.abs(view.xyz[:, :2]).max(1) < 0.98 * radius)
    label = np.where(weak.sparse == ANNOTATED_IGNORED, 0, weak.sparse)
    scatter(axes, view.xyz[annotated, :2], 20, colors[label[annotated]], edgecolors=INK, linewidths=0.6)


def _draw_points(
    axes: Axes, xyz: NDArray[np.float32], layers: list[tuple[NDArray[np.bool_], Any]], radius: float
) -> None:
    """Layers of points, (mask [N], one colour or [N, 3]), the lower layers and within them the lower points first."""
    size = marker_size(len(xyz), WIDTH, WIDTH)
    inside = np.abs(xyz[:, :2]).max(1) < radius
    upwards = np.argsort(xyz[:, 2], kind="stable")
    for mask, color in layers:
        chosen = upwards[(mask & inside)[upwards]]
        scatter(axes, xyz[chosen, :2], size, color if isinstance(color, str) else color[chosen])
    axes.scatter(0, 0, marker="^", s=26, c=INK, linewidths=0)
    axes.set(xlim=(-radius, radius), ylim=(-radius, radius), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=FAINT)


def _draw_nothing(axes: Axes, reason: str) -> None:
    note(axes, reason)
    axes.set_box_aspect(1)


def _draw_scale_bar(axes: Axes, radius: float) -> None:
    left, height = -0.93 * radius, -0.93 * radius
    axes.plot([left, left + SCALE_BAR], [height, height], color=INK, linewidth=2, solid_capstyle="butt")
    axes.text(left, height + 0.03 * radius, f"{SCALE_BAR} m", fontsize=8, va="bottom")


def _draw_legend(axes: Axes, classes: ClassTable, present: NDArray[np.uint8]) -> None:
    axes.set_axis_off()
    look = {"ncols": 2, "columnspacing": 1.2, "handletextpad": 0.3, "labelspacing": 0.75}
    axes.add_artist(axes.legend(handles=class_dots(classes, present[present > 0]), loc="upper left", **look))
    marks = [
        dot(NONE, "ignored or unlabelled"),
        dot("white", "annotated point", markeredgecolor=INK, markeredgewidth=0.8),
        dot(CANDIDATES, "candidate classes only", 5, marker="x", markeredgewidth=1),
        dot(RIGHT, "right"),
        dot(WRONG, "wrong"),
        dot(INK, "sensor", 6, marker="^"),
    ]
    axes.legend(handles=marks, loc="lower left", **look)
