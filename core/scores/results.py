"""results.json of a run directory, and the tables printed from it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.running.files import read_json, write_json
from core.scores.metrics import IGNORED, class_iou, mean_iou

SCOPES = ("vox/in_view", "pix/in_view", "vox/all")
"""What is scored: point head and image head on the points in view (the paper's protocol), point head on all points
(the benchmarks' protocol)."""

STAGES = {"checkpoints": "iteration 0", "checkpoints_mstep_0": "iteration 1", "checkpoints_mstep_1": "iteration 2"}


def result_row(
    checkpoint: str,
    split: str,
    points: str,
    frames: int,
    confusions: dict[str, NDArray[np.int64]],
    names: Sequence[str],
    environment: dict[str, Any],
    benchmark_iou: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """One row of results.json.

    Args:
        points: `dataset.points`: with in_view, points out of view have their nearest predicted neighbour's label.
        confusions: {scope: [C, C]} for each of SCOPES.
        benchmark_iou: float64 [C], IoU of all points by the benchmark's own rule; None where it has none.
    """
    scores = {
        scope: {**_scores(mean_iou(confusion), class_iou(confusion), names), "confusion": confusion.tolist()}
        for scope, confusion in confusions.items()
    }
    if benchmark_iou is not None:
        scores["vox/all"]["benchmark"] = _scores(float(np.nanmean(benchmark_iou)), benchmark_iou, names)
    return {
        "checkpoint": checkpoint,
        "stage": STAGES.get(os.path.basename(os.path.dirname(os.path.abspath(checkpoint))), ""),
        "split": split,
        "points": points,
        "frames": frames,
        "scores": scores,
        "environment": environment,
    }


def _scores(miou: float, iou: NDArray[np.float64], names: Sequence[str]) -> dict[str, Any]:
    return {"miou": _percent(miou), "iou": {name: _percent(iou[c]) for c, name in enumerate(names) if c != IGNORED}}


def _percent(value: float) -> float | None:
    return round(100 * float(value), 4) if np.isfinite(value) else None


def save_row(path: str, row: dict[str, Any]) -> None:
    """Adds a row to results.json, in place of an earlier one of the same checkpoint, views, split and points."""
    rows = [r for r in read_rows(path) if _key(r) != _key(row)]
    write_json(path, [*rows, row])


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return os.path.realpath(row["checkpoint"]), *(row.get(key) for key in ("turns", "split", "points"))


def read_rows(path: str) -> list[dict[str, Any]]:
    """The rows of results.json; none where the file is absent."""
    return read_json(path, "move it away and run eval_miou.py again") if os.path.exists(path) else []


def class_table(row: dict[str, Any]) -> str:
    """Per-class IoUs of one checkpoint, as text."""
    scores = row["scores"]
    scopes = [scope for scope in SCOPES if scope in scores]
    titles = {"vox/in_view": "point head, in view", "pix/in_view": "image head, in view", "vox/all": "point head, all"}
    columns = {titles[scope]: scores[scope] for scope in scopes}
    if "benchmark" in scores.get("vox/all", {}):
        columns["all, benchmark's rule"] = scores["vox/all"]["benchmark"]
    lines = [f"{'IoU %':<24}" + "".join(f"{title:>22}" for title in columns)]
    for name in scores[scopes[0]]["iou"]:
        lines.append(f"{name:<24}" + "".join(f"{_cell(column['iou'][name]):>22}" for column in columns.values()))
    lines.append(f"{'mean':<24}" + "".join(f"{_cell(column['miou']):>22}" for column in columns.values()))
    if row["points"] == "in_view":
        lines.append("Points out of view have the label of their nearest predicted neighbour." + _warning(scores))
    return "\n".join(lines)


def _warning(scores: dict[str, Any]) -> str:
    """What is to be said where most points lie out of view."""
    points = {scope: np.sum(scores[scope]["confusion"]) for scope in ("vox/in_view", "vox/all") if scope in scores}
    if "vox/in_view" not in points or not points["vox/all"] or points["vox/in_view"] >= 0.5 * points["vox/all"]:
        return ""
    share = 100 * points["vox/in_view"] / points["vox/all"]
    return (
        f"\nOnly {share:.0f} % of the points are in view: such labels of the others are no fair measure; evaluate with "
        "dataset.points all."
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def stage_table(rows: Mapping[str, dict[str, Any]]) -> str:
    """mIoU of rows of results.json, by their titles, as text."""
    width = max(map(len, rows), default=0) + 2
    lines = [f"{'mIoU %':<{width}}{'point head, in view':>22}{'image head, in view':>22}{'point head, all':>22}"]
    for title, row in rows.items():
        cells = "".join(f"{_cell(row['scores'].get(scope, {}).get('miou')):>22}" for scope in SCOPES)
        lines.append(f"{title:<{width}}{cells}")
    warnings = dict.fromkeys(_warning(row["scores"]) for row in rows.values() if row["points"] == "in_view")
    return "\n".join(lines) + "".join(warnings)
