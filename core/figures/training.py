"""training.png: losses and validation scores over the course of training."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import NDArray

from core.figures.sources import Missing, Sources
from core.figures.style import INK, SERIES, new_figure

STAGES = {"train": "pretraining", "train_mstep_0": "M-step 1", "train_mstep_1": "M-step 2"}
TERMS = ("sparse", "propagated", "negative", "pseudo", "dense", "walker", "visit")
HEADS = {"vox": ("-", "point head"), "pix": ("--", "image head")}

POINTS = 200
"""Longer curves are drawn as the means of so many stretches."""

Scalars = Mapping[str, Sequence[Mapping[str, Any]]]


def training_figure(sources: Sources) -> Figure:
    """Every stage that scalars.jsonl has."""
    scalars = read_scalars(os.path.join(sources.run_dir, "scalars.jsonl"))
    if not scalars:
        raise Missing(f"{sources.run_dir} has no scalars.jsonl yet; training writes it")
    return draw_training(scalars)


def read_scalars(path: str) -> dict[str, list[dict[str, Any]]]:
    """Stage -> lines in order of their steps; of a step that was run again after a crash the newer values count."""
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for text in file:
                try:
                    line = json.loads(text)
                    steps = stages.setdefault(line["stage"], {})
                    steps[line["step"]] = steps.get(line["step"], {}) | line
                except (ValueError, TypeError, KeyError):
                    continue  # a crash may leave half a line
    return {stage: [steps[step] for step in sorted(steps)] for stage, steps in stages.items()}


def draw_training(scalars: Scalars) -> Figure:
    """One column per stage: loss terms above (logarithmic), mean IoU of both heads below.

    Args:
        scalars: stage -> lines with `step`, `loss/...` and `iou/HEAD/val` values.
    """
    figure = new_figure(max(4.2 * len(scalars), 6.5), 6.4)
    rows = figure.subplots(2, len(scalars), sharex="col", sharey="row", squeeze=False, height_ratios=(1.5, 1))
    for column, (stage, lines) in enumerate(scalars.items()):
        _draw_losses(rows[0, column], lines)
        _draw_scores(rows[1, column], lines)
        rows[0, column].set_title(STAGES.get(stage, stage))
        rows[1, column].set_xlabel("iteration")
    rows[0, 0].set_ylabel("loss terms")
    rows[1, 0].set_ylabel("validation mIoU, %")
    rows[1, 0].set_ylim(bottom=0)
    for axes in rows.flat:
        axes.grid(axis="y")
        axes.tick_params(length=2)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    _add_legend(figure, rows[0], "outside right upper")
    _add_legend(figure, rows[1], "outside right lower")
    return figure


def _add_legend(figure: Figure, row: Iterable[Axes], place: str) -> None:
    """One entry for each label that any of the panels has."""
    pairs = [pair for axes in row for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in pairs}
    figure.legend(list(entries.values()), list(entries), loc=place, handlelength=2.6)


def _draw_losses(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    _draw_curve(axes, lines, "loss/total", "total", color=INK, linewidth=2.2)
    for term, color in zip(TERMS, SERIES, strict=True):
        _draw_curve(axes, lines, f"loss/{term}", term, color=color)
        for head, (style, name) in HEADS.items():
            _draw_curve(axes, lines, f"loss/{term}/{head}", f"{term}, {name}", color=color, linestyle=style)


def _draw_scores(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    for (head, (style, name)), marker in zip(HEADS.items(), "os", strict=True):
        look = {"color": INK, "linestyle": style, "linewidth": 1.6, "marker": marker, "markersize": 4.5}
        face = INK if marker == "o" else "white"
        _draw_curve(axes, lines, f"iou/{head}/val", name, **look, markerfacecolor=face)


def _draw_curve(axes: Axes, lines: Sequence[Mapping[str, Any]], key: str, label: str, **look: Any) -> None:
    """The values of a key over the steps that have it; nothing where all are zero (a term without weight)."""
    pairs = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
    steps, values = np.array(pairs, float).reshape(-1, 2).T
    if not len(values) or (key.startswith("loss/") and not values.any()):
        return
    if len(values) > POINTS:
        steps, values = _averaged(steps), _averaged(values)
    if axes.get_yscale() == "log":
        values = np.where(values > 0, values, np.nan)
    default: dict[str, Any] = {"linewidth": 1.3}
    if len(values) < 20:
        default |= {"marker": "o", "markersize": 3}
    axes.plot(steps, values, label=label, **(default | look))


def _averaged(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([stretch.mean() for stretch in np.array_split(values, POINTS)])
