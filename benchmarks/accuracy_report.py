"""Table and curves of `benchmarks.accuracy`, from the scores that its trainings wrote."""

import glob
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from benchmarks.common import machine, table
from core.figures.style import INK, SERIES, new_figure, save_figure
from core.figures.training import read_scalars
from core.running.files import write_atomic, write_json

Scores = dict[str, Any]
"""Of one training: "curve", a list of [iteration, mIoU % of the point head in view], and numbers; see `scores_of`."""

FULL = "full"
"""The row of full supervision, which all others are compared with."""


class Trained(Protocol):
    """What the report needs to know of a row."""

    @property
    def title(self) -> str: ...
    @property
    def stage(self) -> str: ...


def scores_of(lines: Sequence[Mapping[str, Any]], num_epochs: int) -> Scores | None:
    """Scores of a training from its lines of scalars.jsonl; None where it has not come to its last epoch.

    best and best_epoch are those of the point head's largest mIoU (of equal ones the first), last of the last epoch,
    late_gain is last minus what the curve had after four fifths of the iterations, image_head the image head's largest,
    None without one.
    """
    scored = [line for line in lines if line.get("iou/vox/val") is not None]
    if not scored or scored[-1]["epoch"] < num_epochs:
        return None
    curve = [[line["step"], line["iou/vox/val"]] for line in scored]
    steps, values = np.array(curve, float).T
    best = int(values.argmax())
    image = [line["iou/pix/val"] for line in scored if line.get("iou/pix/val") is not None]
    return {
        "curve": curve,
        "best": values[best],
        "best_epoch": scored[best]["epoch"],
        "last": values[-1],
        "late_gain": values[-1] - np.interp(0.8 * steps[-1], steps, values),
        "image_head": max(image) if image else None,
    }


def read_scores(
    run_dir: str, rows: Mapping[str, Trained], folder: Callable[[str, int], str], num_epochs: int
) -> dict[str, dict[int, Scores]]:
    """{row: {seed: scores}} of all trainings of a run directory that have finished."""
    seeds = sorted(int(path.rpartition("_")[2]) for path in glob.glob(os.path.join(glob.escape(run_dir), "seed_*")))
    found: dict[str, dict[int, Scores]] = {name: {} for name in rows}
    for name, row in rows.items():
        for seed in seeds:
            lines = read_scalars(os.path.join(folder(name, seed), "scalars.jsonl")).get(row.stage, [])
            scores = scores_of(lines, num_epochs)
            if scores is not None:
                found[name][seed] = scores
    return {name: scores for name, scores in found.items() if scores}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, None of a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def summary(found: Mapping[str, Mapping[int, Scores]]) -> dict[str, dict[str, Any]]:
    """Over the seeds of each row: mean and spread of its numbers.

    share_of_full is its best over that of full supervision, the row FULL, %, of the seeds that both have.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, seeds in found.items():
        numbers = {
            key: mean_and_spread([scores[key] for scores in seeds.values()])
            for key in ("best", "best_epoch", "last", "late_gain")
        }
        image = [scores["image_head"] for scores in seeds.values() if scores["image_head"] is not None]
        full = found.get(FULL, {})
        shares = [
            100 * scores["best"] / full[s]["best"] for s, scores in seeds.items() if s in full and full[s]["best"]
        ]
        rows[name] = {
            "seeds": len(seeds),
            **numbers,
            "image_head": mean_and_spread(image) if image else None,
            "share_of_full": mean_and_spread(shares) if shares else None,
        }
    return rows


def markdown(numbers: Mapping[str, Mapping[str, Any]], rows: Mapping[str, Trained]) -> str:
    """The summary as a Markdown table."""
    lines = [
        {
            "mIoU %, point head, in view": rows[name].title,
            "best epoch": _cell(row["best"]),
            "(which)": f"{row['best_epoch'][0]:.0f}",
            "last epoch": _cell(row["last"]),
            "gain of the last fifth": f"{row['late_gain'][0]:+.1f}",
            "best / full, %": _cell(row["share_of_full"]),
            "image head": _cell(row["image_head"]),
            "seeds": str(row["seeds"]),
        }
        for name, row in numbers.items()
    ]
    return table(lines)


def _cell(pair: tuple[float, float | None] | None) -> str:
    if pair is None:
        return "-"
    mean, spread = pair
    return f"{mean:.1f}" if spread is None else f"{mean:.1f} ± {spread:.1f}"


def draw_curves(found: Mapping[str, Mapping[int, Scores]], rows: Mapping[str, Trained]) -> Figure:
    """mIoU over iterations: the mean of the seeds, and a band from the lowest to the highest."""
    figure = new_figure(8.5, 4.8)
    axes = figure.subplots()
    for place, name in enumerate(rows):
        if name not in found:
            continue
        curves = [np.array(scores["curve"], float) for scores in found[name].values()]
        steps = curves[0][:, 0]
        values = np.array([np.interp(steps, *curve.T) for curve in curves])
        color, style = (INK, *SERIES)[place % 8], ("-", "--")[place // 8]
        axes.plot(steps, values.mean(0), color=color, linestyle=style, linewidth=1.6, label=rows[name].title)
        if len(values) > 1:
            axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.12, linewidth=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("validation mIoU of the point head, in view, %")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    figure.legend(loc="outside right upper")
    return figure


def write_report(run_dir: str, rows: Mapping[str, Trained], folder: Callable[[str, int], str], num_epochs: int) -> str:
    """Writes accuracy.json, accuracy.md and accuracy.png of what has finished; returns the text."""
    found = read_scores(run_dir, rows, folder, num_epochs)
    if not found:
        return f"{run_dir}: no training has finished with {num_epochs} epochs."
    numbers = summary(found)
    iterations = max(scores["curve"][-1][0] for seeds in found.values() for scores in seeds.values())
    text = f"{machine()}\n\n{iterations} iterations ({num_epochs} epochs) a training.\n\n{markdown(numbers, rows)}\n"
    content = {"machine": machine(), "num_epochs": num_epochs, "rows": numbers, "trainings": found}
    write_json(os.path.join(run_dir, "accuracy.json"), content)
    with write_atomic(os.path.join(run_dir, "accuracy.md")) as file:
        file.write(text.encode())
    save_figure(draw_curves(found, rows), os.path.join(run_dir, "accuracy.png"))
    return text
