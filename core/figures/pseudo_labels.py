"""pseudo_labels.png: how good the pseudo-labels are, per class and round."""

import os
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core import builder
from core.figures.sources import Missing, Sources
from core.figures.style import CORRECT, INK, MUTED, NONE, WRONG, new_figure, note, readable
from core.label_files.errors import META_NAME
from core.label_files.files import PSEUDO_LABEL, read_meta

SHARES = {"correct": CORRECT, "wrong": WRONG, "ignored": NONE}


def pseudo_label_figure(sources: Sources) -> Figure:
    """Both rounds, as far as they are done."""
    statistics: dict[int, dict[str, Any] | None] = {}
    for step_round in (1, 2):
        directory = builder.pseudo_label_dir(sources.run_dir, step_round)
        done = os.path.exists(os.path.join(directory, META_NAME))
        statistics[step_round] = read_meta(directory, PSEUDO_LABEL)["statistics"] if done else None
    if not any(statistics.values()):
        raise Missing(f"{sources.run_dir} has no pseudo-labels yet")
    return draw_pseudo_labels(statistics)


def draw_pseudo_labels(statistics: Mapping[int, Mapping[str, Any] | None]) -> Figure:
    """One panel per round, stacked horizontal bars per class.

    Args:
        statistics: round -> statistics of the pseudo-labels' meta.json; None where the round is still to come.
    """
    rounds = [row["classes"] for row in statistics.values() if row and "classes" in row]
    names = list(dict.fromkeys(name for classes in rounds for name in classes))
    figure = new_figure(12, 1.5 + 0.3 * max(len(names), 6))
    panels = figure.subplots(1, len(statistics), squeeze=False)[0]
    for axes, (step_round, row) in zip(panels, statistics.items(), strict=True):
        axes.set_title(f"pseudo-labels, round {step_round}")
        if row is None:
            note(axes, f"E-step {step_round} is still to come")
        elif "classes" not in row:
            note(axes, "not scored: no dense labels were at hand")
        else:
            _draw_round(axes, row, names)
            axes.tick_params(labelleft=row["classes"] is rounds[0])  # the other panel has the same names
    handles, labels = next((axes.get_legend_handles_labels() for axes in panels if axes.containers), ([], []))
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _draw_round(axes: Axes, statistics: Mapping[str, Any], names: list[str]) -> None:
    classes = statistics["classes"]
    left = [0.0] * len(names)
    for share, color in SHARES.items():
        widths = [100 * classes.get(name, {}).get(share, 0.0) for name in names]
        bars = axes.barh(range(len(names)), widths, left=left, color=color, height=0.72, label=f"{share} labels")
        text = [f"{width:.0f}" if width >= 6 else "" for width in widths]
        axes.bar_label(bars, text, label_type="center", fontsize=7.5, color=INK if share == "ignored" else "white")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for position, name in enumerate(names):
        points = classes.get(name, {}).get("points", 0)
        axes.text(101, position, f"{points:,}", va="center", fontsize=7.5, color=MUTED)
    axes.text(101, -0.85, "points", va="center", fontsize=7.5, color=MUTED)
    axes.set(
        xlim=(0, 100),
        ylim=(len(names) - 0.5, -0.6),
        yticks=range(len(names)),
        yticklabels=[readable(name) for name in names],
    )
    axes.set_xlabel(
        "share of the class's points that this round looks at, %\n"
        f"({100 * statistics['accuracy']:.1f} % of all labelled points are right)"
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
