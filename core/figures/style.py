"""How all figures look, and how they are saved."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

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

DPI = (130, 110, 95, 80)
"""Resolutions that are tried, until the file is small enough."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def save_figure(figure: Figure, path: str, max_bytes: int = 600_000) -> None:
    """Writes a PNG of at most `max_bytes`: with 256 colours, and then at lower resolution, where needed."""
    content = b""
    for dpi in DPI:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        content = buffer.getvalue()
        if len(content) > max_bytes:
            image = Image.open(buffer).convert("RGB")
            buffer = io.BytesIO()
            with_palette(image, dot_colors(figure)).save(buffer, format="PNG", optimize=True)
            content = buffer.getvalue()
        if len(content) <= max_bytes:
            break
    try:
        with write_atomic(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another output folder") from None


def with_palette(image: Image.Image, kept: NDArray[np.uint8]) -> Image.Image:
    """The image in 256 colours: `kept` [K, 3] as they are, half of the others by median cut, half by largest coverage.

    Median cut alone serves photos well and loses the colours of rare classes.
    """
    half = (256 - len(kept)) // 2
    colors = kept.ravel().tolist()
    sample = image.resize((-(-image.width // 3), -(-image.height // 3)), Image.Resampling.NEAREST)
    for method in (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE):
        colors += (sample.quantize(half, method).getpalette() or [])[: 3 * half]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors)
    indices = np.array(image.quantize(palette=palette, dither=Image.Dither.NONE))
    # Pillow's search for the nearest colour is coarse
    pixels = np.asarray(image)
    for index, color in enumerate(kept):
        indices[(pixels == color).all(axis=2)] = index
    result = Image.fromarray(indices)
    result.putpalette(colors)
    return result


def dot_colors(figure: Figure) -> NDArray[np.uint8]:
    """uint8 [K, 3], K <= 64: the colours of all dots."""
    colors = [np.array([[1.0, 1.0, 1.0]])]
    for axes in figure.axes:
        colors += [np.atleast_2d(collection.get_facecolor())[:, :3] for collection in axes.collections]
    return np.unique((255 * np.concatenate(colors)).round().astype(np.uint8), axis=0)[:64]


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
    return Line2D(
        [],
        [],
        linestyle="none",
        marker="o",
        color=color,
        markersize=size,
        label=label,
        **({"markeredgewidth": 0} | keywords),
    )


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


def legend_rows(entries: Sequence[Any], per_row: int) -> int:
    """Columns of a legend below the figure: rows of equal length, at most `per_row` long."""
    rows = -(-len(entries) // per_row)
    return -(-len(entries) // max(rows, 1))
