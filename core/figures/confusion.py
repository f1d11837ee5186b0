"""confusion_matrix.png: what the last iteration's point head takes for what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.figures.results import validation_rows
from core.figures.sources import Missing, Sources
from core.figures.style import INK, MUTED, new_figure, readable
from core.scores.metrics import IGNORED

TITLES = {"vox/in_view": "points in view", "vox/all": "all points"}
SCOPES = tuple(TITLES)  # the second where no camera sees anything


def confusion_figure(sources: Sources) -> Figure:
    """The last iteration that results.json has, point head, points in view, or all where no camera sees any."""
    label, row = list(validation_rows(sources.run_dir).items())[-1]
    scope = next((scope for scope in SCOPES if scope in row["scores"]), None)
    if scope is None:
        raise Missing(f"results.json has no scores of {' or '.join(SCOPES)} for {label}")
    scores = row["scores"][scope]
    miou = "" if scores["miou"] is None else f", mIoU {scores['miou']:.1f} %"
    confusion = np.array(scores["confusion"], np.int64)
    return draw_confusion(confusion, ["ignored", *scores["iou"]], f"{label}: point head, {TITLES[scope]}{miou}")


def draw_confusion(confusion: NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """Percentages of each row, in colour and as numbers; classes without ground truth have an empty row.

    Args:
        confusion: [C, C], row = ground truth, column = prediction.
        names: [C]; the ignored class has no row, and a column only where it is predicted.
    """
    classes = np.delete(np.arange(len(names)), IGNORED)
    columns = np.append(classes, IGNORED) if confusion[classes, IGNORED].any() else classes
    counts = confusion[classes]
    totals = counts.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)[:, columns]

    figure = new_figure(0.46 * len(columns) + 3.2, 0.42 * len(classes) + 2.2)
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for i, j in zip(*np.nonzero(share >= 0.5), strict=True):
        color = "white" if share[i, j] > 55 else INK
        axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", fontsize=7.5, color=color)
    for i, total in enumerate(totals[:, 0]):
        axes.text(len(columns) - 0.35, i, f"{total:,}" if total else "none", va="center", fontsize=7.5, color=MUTED)
    axes.text(len(columns) - 0.35, -0.9, "points", va="center", fontsize=7.5, color=MUTED)
    axes.set_xticks(
        range(len(columns)), [readable(names[c]) for c in columns], rotation=45, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(classes)), [readable(names[c]) for c in classes])
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", axis="both", color="white", linewidth=1.2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="prediction", ylabel="ground truth (each row adds up to 100 %)")
    axes.set_title(title, pad=22)
    return figure
