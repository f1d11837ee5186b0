"""How all figures look, and how they are saved."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from core.datasets.frame import ClassTable
from core.errors import UserError
from core.running.files import write_atomic

INK, MUTED, FAINT = "#1f2a36", "#6b7785", "#dfe3e8"
RIGHT, WRONG, NONE, CANDIDATES = "#aeb6bf", "#d62839", "#e4e7eb", "#a3a3a3"
CORRECT = "#3f9b6c"
SERIES = ("#2b6cb0", "#dd8a3e", "#3f9b6c", "#8a5fb0", "#c2496b", "#7a6a58", "#4aa8bd")

STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.axisbelow": True,
}

DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def save_figure(figure: Figure, path: str) -> None:
    """Writes a PNG."""
    try:
        with write_atomic(path) as file:
            figure.savefig(file, format="png", dpi=DPI)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from None


def class_colors(classes: ClassTable) -> NDArray[np.float64]:
    """float64 [C, 3] in [0, 1]: the classes' own colours, the ignored class in light grey."""
    colors = classes.colors / 255.0
    colors[0] = [int(NONE[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return colors


def readable(name: str) -> str:
    """A class name as figures show it."""
    return name.replace("_", " ")


def dot(color: Any, label: str, size: float = 7, **keywords: Any) -> Line2D:
    """A legend entry: a dot."""
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markeredgewidth": 0} | keywords
    return Line2D([], [], color=color, markersize=size, label=label, **look)


def class_dots(classes: ClassTable, present: Iterable[int]) -> list[Line2D]:
    """Legend entries of the classes that are present, in order of their ids."""
    colors = class_colors(classes)
    return [dot(colors[c], readable(classes.names[c])) for c in sorted({int(c) for c in present})]


def marker_size(num_points: int, width: float, height: float, coverage: float = 0.2) -> float:
    """Area of a marker (pt^2) with which `num_points` cover a share of axes of width x height (inches)."""
    return float(np.clip(coverage * width * height * 72**2 / max(num_points, 1), 0.8, 20.0))


def scatter(axes: Axes, points: NDArray[Any], size: float, color: Any, **look: Any) -> None:
    """Dots at points [M, 2], of one colour or of [M, 3]."""
    axes.scatter(points[:, 0], points[:, 1], s=size, c=color, **({"linewidths": 0} | look))


def bare(axes: Axes) -> None:
    """Takes ticks and spines away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def note(axes: Axes, text: str) -> None:
    """Writes in empty axes why they are empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED, fontstyle="italic")


def legend_below(figure: Figure, entries: Sequence[Any]) -> None:
    """A legend below the figure, if there is an entry."""
    if entries:
        look = {"columnspacing": 1.4, "handletextpad": 0.2}
        figure.legend(handles=entries, loc="outside lower center", ncols=legend_rows(entries, 9), **look)


def legend_rows(entries: Sequence[Any], per_row: int) -> int:
    """Columns of a legend below the figure: rows of equal length, at most `per_row` long."""
    rows = -(-len(entries) // per_row)
    return -(-len(entries) // max(rows, 1))
