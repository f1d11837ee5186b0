"""projection.png: a camera image with its points, in the colours of the ground truth and of the predictions."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.datasets.frame import ClassTable
from core.figures.choice import most_classes
from core.figures.sources import Sources
from core.figures.style import bare, class_colors, class_dots, legend_below, marker_size, new_figure, scatter

WIDTH = 7.2  # of a panel, inches


def projection_figure(sources: Sources) -> Figure:
    """The image of the split val with the most classes in it."""
    scan, camera, truth = most_classes(sources)
    view = scan.frame.cameras[camera]
    seen = np.flatnonzero(scan.projection.camera == camera)
    far_first = seen[np.argsort(-np.linalg.norm(scan.points[seen, :3], axis=1))]
    labels = {"ground truth": truth[far_first], "prediction": sources.prediction(scan)[far_first]}
    reader, caption = sources.reader("val"), f"{scan.frame.scene}, {view.name}"
    image = reader.load_image(view)
    return draw_projection(image, scan.projection.pixel[far_first], labels, reader.classes, caption)


def draw_projection(
    image: NDArray[np.uint8],
    pixel: NDArray[np.float64],
    labels: Mapping[str, NDArray[np.uint8]],
    classes: ClassTable,
    caption: str = "",
) -> Figure:
    """One panel per labelling, side by side.

    Args:
        image: uint8 [H, W, 3], RGB.
        pixel: [M, 2], (u, v) of the points in the image, in drawing order.
        labels: title -> uint8 [M], classes of the points; those of the ignored class are small and pale.
        caption: which image this is.
    """
    height, width = image.shape[:2]
    panel_height = WIDTH * height / width
    figure = new_figure(WIDTH * len(labels), panel_height + 0.75)
    colors, size = class_colors(classes), marker_size(len(pixel), WIDTH, panel_height)
    for axes, (title, label) in zip(figure.subplots(1, len(labels), squeeze=False)[0], labels.items(), strict=True):
        axes.imshow(subdued(image), interpolation="lanczos")
        known = label > 0
        scatter(axes, pixel[~known], 0.5 * size, colors[label[~known]], alpha=0.8)
        scatter(axes, pixel[known], size, colors[label[known]])
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        axes.set_title(title)
        bare(axes)
    figure.axes[-1].set_title(caption, loc="right", fontweight="normal", fontsize=8)
    legend_below(figure, class_dots(classes, np.unique(np.concatenate(list(labels.values())))))
    return figure


def subdued(image: NDArray[np.uint8], saturation: float = 0.6, lightness: float = 0.3) -> NDArray[np.uint8]:
    """The image nearer to grey and to white, so that coloured points stand out; uint8 [H, W, 3]."""
    values = image.astype(np.float64)
    values = saturation * values + (1 - saturation) * values.mean(axis=2, keepdims=True)
    return ((1 - lightness) * values + lightness * 255).round().astype(np.uint8)
