"""Table and curves of `benchmarks.annotation`."""

import glob
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes

from benchmarks.common import machine, table
from core.figures.style import INK, SERIES, STYLE, new_figure, save_figure
from core.running.files import write_atomic, write_json

RESULT = "result.json"
SECONDS = 2.0
"""A click is said to take; no person was measured."""
TITLES = {"city": "made-up city", "pandaset": "PandaSet's scene"}
Results = Mapping[float, Mapping[int, Mapping[str, Any]]]
"""{share of the clicks: {seed: result of a training}}"""
Panels = dict[tuple[str, int], dict[str, dict[float, dict[int, dict[str, Any]]]]]
"""{(data set, window): {order: Results}}"""


def read_results(run_dir: str) -> Panels:
    """All trainings that have finished; orders that need suggestions share their first one with the order FIRST."""
    from benchmarks.annotation import FIRST, TRIED

    panels: Panels = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for path in sorted(glob.glob(f"{glob.escape(run_dir)}/*/window_*/seed_*/*/*/{RESULT}")):
        data, window, seed, order, share, _ = path.split(os.sep)[-6:]
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        panels[data, int(window.split("_")[1])][order][float(share)][int(seed.split("_")[1])] = content
    for orders in panels.values():
        for order in orders:
            if order in TRIED and TRIED[order].suggested and FIRST in orders:
                first = min(orders[FIRST])
                orders[order][first] = dict(orders[FIRST][first])
    return panels


def summary(results: Results) -> list[dict[str, Any]]:
    """Of each share, ascending: clicks, components, propagated share (means), and mIoU's mean, lowest and highest."""
    rows = []
    for share, by_seed in sorted(results.items()):
        found = list(by_seed.values())
        miou = np.array([result["miou"] for result in found])
        means = {name: float(np.mean([result[name] for result in found])) for name in ("clicks", "components")}
        means["propagated"] = float(np.mean([result["propagated"] for result in found]))
        spread = {"miou": miou.mean(), "lowest": miou.min(), "highest": miou.max()}
        rows.append({"share": share, "seeds": len(found), **means, **{k: float(v) for k, v in spread.items()}})
    return rows


def markdown(panels: Panels) -> str:
    """A table a panel: a row an order, a column a share of the clicks."""
    texts = []
    for (data, window), orders in sorted(panels.items()):
        some = next(iter(orders.values()))
        iterations = next(iter(next(iter(some.values())).values()))["iterations"]
        found = {order: {row["share"]: row for row in summary(results)} for order, results in orders.items()}
        shares = sorted({share for rows in found.values() for share in rows})
        columns = {share: _column(share, found) for share in shares}
        rows = [
            {"order": order, **{columns[share]: _cell(own.get(share)) for share in shares}}
            for order, own in sorted(found.items(), key=lambda pair: _rank(pair[1]))
        ]
        texts.append(f"{TITLES[data]}, window {window}, {iterations} iterations:\n\n{table(rows)}")
    return "\n\n".join(texts)


def _rank(rows: Mapping[float, Mapping[str, Any]]) -> tuple[float, float]:
    """All clicks first, then by the score of the largest share."""
    largest = max(rows)
    return -largest, -rows[largest]["miou"]


def _column(share: float, found: Mapping[str, Mapping[float, Mapping[str, Any]]]) -> str:
    clicks = np.mean([rows[share]["clicks"] for rows in found.values() if share in rows])
    return f"{100 * share:g} %: {clicks:.0f} clicks, {clicks * SECONDS / 3600:.1f} h"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    spread = f" ({row['lowest']:.1f}–{row['highest']:.1f})" if row["seeds"] > 1 else ""
    return f"{row['miou']:.1f}{spread}"


def draw(axes: Axes, orders: Mapping[str, Results], title: str) -> None:
    """mIoU against clicks: the seeds' mean, a bar from the lowest to the highest; all orders end in all clicks."""
    for order, results in orders.items():
        rows = summary({**results, **orders.get("all", {})} if order in STYLES else results)
        clicks, middle, low, high = (
            np.array([row[name] for row in rows]) for name in ("clicks", "miou", "lowest", "highest")
        )
        color = STYLES.get(order, INK)
        line = "" if len(rows) == 1 else "-"
        axes.errorbar(
            clicks, middle, (middle - low, high - middle), label=order, color=color, linestyle=line, marker="o",
            markersize=4, linewidth=1.6, elinewidth=0.8, capsize=2,
        )  # fmt: skip
    axes.set_xscale("log")
    shown = sorted({round(row["clicks"]) for results in orders.values() for row in summary(results)})
    apart = [k for k, after in zip(shown, [*shown[1:], np.inf], strict=True) if after > 1.1 * k]
    axes.set_xticks(apart, [f"{clicks:,}" for clicks in apart])
    axes.minorticks_off()
    axes.set_title(title)
    axes.set_xlabel("clicks")
    axes.grid(axis="y")


_NAMES = ("random", "uncertainty", "uncertain_classes", "classes", "size", "frames", "file")
STYLES = dict(zip(_NAMES, SERIES, strict=True))


def write_report(run_dir: str) -> str:
    """Writes annotation.json, annotation.md and annotation_curve.png of what has finished; the text."""
    panels = read_results(run_dir)
    if not panels:
        return f"{run_dir}: no training has finished."
    text = f"{machine()}; {SECONDS:g} s a click is assumed\n\n{markdown(panels)}\n"
    content = {
        f"{data}, window {window}": {order: summary(results) for order, results in orders.items()}
        for (data, window), orders in sorted(panels.items())
    }
    write_json(os.path.join(run_dir, "annotation.json"), content)
    with write_atomic(os.path.join(run_dir, "annotation.md")) as file:
        file.write(text.encode())
    panels = {place: orders for place, orders in panels.items() if any(len(found) > 1 for found in orders.values())}
    if panels:
        with rc_context(STYLE):
            _save_curves(panels, os.path.join(run_dir, "annotation_curve.png"))
    return text


def _save_curves(panels: Panels, path: str) -> None:
    figure = new_figure(4.5 * len(panels) + 1.5, 3.6)
    for axes, ((data, window), orders) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], sorted(panels.items()), strict=True
    ):
        draw(axes, orders, f"{TITLES[data]}, window {window}")
    figure.axes[0].set_ylabel("validation mIoU, %")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")
    save_figure(figure, path)
