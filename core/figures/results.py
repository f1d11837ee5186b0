"""results.png: mean IoU after each iteration."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from core.figures.sources import Missing, Sources
from core.figures.style import SERIES, new_figure
from core.scores.results import SCOPES, STAGES, read_rows

TITLES = {
    "vox/in_view": "point head, points in view",
    "pix/in_view": "image head, points in view",
    "vox/all": "point head, all points",
}


def results_figure(sources: Sources) -> Figure:
    """Every iteration that results.json has for the split val."""
    rows = validation_rows(sources.run_dir)
    scores = {label: row["scores"] for label, row in rows.items()}
    return draw_results({label: {s: score.get(s, {}).get("miou") for s in SCOPES} for label, score in scores.items()})


def validation_rows(run_dir: str) -> dict[str, dict[str, Any]]:
    """Rows of results.json of the split val, iteration -> row, in order; the newest of each iteration.

    Checkpoints outside of a run's usual folders come first, under their names.
    """
    path = os.path.join(run_dir, "results.json")
    rows = [row for row in read_rows(path) if row["split"] == "val"]
    if not rows:
        raise Missing(f"{path} has no scores of the split val; eval_miou.py writes them")
    found = {row["stage"] or os.path.basename(row["checkpoint"]): row for row in rows}
    order = {stage: position for position, stage in enumerate(STAGES.values())}
    return {label: found[label] for label in sorted(found, key=lambda label: order.get(label, -1))}


def draw_results(scores: Mapping[str, Mapping[str, float | None]]) -> Figure:
    """Grouped bars.

    Args:
        scores: iteration -> scope (of SCOPES) -> mean IoU, %; None where there is none.
    """
    figure = new_figure(max(2.2 + 2.2 * len(scores), 7), 4)
    axes = figure.subplots()
    width = 0.8 / len(SCOPES)
    for k, scope in enumerate(SCOPES):
        heights = [row.get(scope) for row in scores.values()]
        positions = np.arange(len(scores)) + (k - (len(SCOPES) - 1) / 2) * width
        bars = axes.bar(
            positions, [0.0 if h is None else h for h in heights], 0.92 * width, color=SERIES[k], label=TITLES[scope]
        )
        axes.bar_label(bars, ["–" if h is None else f"{h:.1f}" for h in heights], padding=2, fontsize=8)
    axes.set_xticks(range(len(scores)), list(scores))
    axes.set_xlim(-0.6, len(scores) - 0.4)
    axes.margins(y=0.12)
    axes.set_ylabel("mIoU, %")
    axes.set_title("validation after each iteration")
    axes.grid(axis="y")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(SCOPES), handlelength=1.0)
    return figure
