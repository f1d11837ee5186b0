"""superpixels.png: a training image's superpixels, and the classes that annotated points lend to them."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.datasets.association import association_targets, superpixel_ids
from core.datasets.frame import ClassTable
from core.datasets.projection import normalize_pixels
from core.figures.choice import most_annotated
from core.figures.projection import subdued
from core.figures.sources import Sources
from core.figures.style import INK, bare, class_colors, class_dots, legend_below, new_figure, scatter
from core.label_files.files import ANNOTATED_IGNORED

WIDTH = 7.2  # of a panel, inches


def superpixel_figure(sources: Sources) -> Figure:
    """The training image whose annotated points are of the most classes."""
    scan, camera, weak = most_annotated(sources)
    view, projection = scan.frame.cameras[camera], scan.projection
    ids = sources.superpixels(scan.frame)[camera]
    annotated = (weak.sparse > 0) & (weak.sparse != ANNOTATED_IGNORED) & (projection.camera == camera)
    pixel, label = projection.pixel[annotated], weak.sparse[annotated]
    normalized = normalize_pixels(pixel, projection.camera[annotated], scan.frame.cameras)
    targets = pixel_targets(ids, superpixel_ids([ids], np.zeros(len(label), np.int8), normalized), label)
    reader, caption = sources.reader("train"), f"{scan.frame.scene}, {view.name}"
    return draw_superpixels(reader.load_image(view), ids, targets, pixel, label, reader.classes, caption)


def pixel_targets(
    ids: NDArray[np.integer], annotated_ids: NDArray[np.integer], label: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """uint8 [h, w], class of each superpixel whose annotated points are of one class, 0 elsewhere.

    Args:
        ids: [h, w], superpixel ids.
        annotated_ids: [A], superpixels of the annotated points.
        label: uint8 [A], their classes.
    """
    flat = ids.reshape(-1).astype(np.int64)
    both = np.concatenate([annotated_ids, flat])
    labels = np.concatenate([label, np.zeros(len(flat), np.uint8)])
    return association_targets(both, labels, np.ones(len(both), bool))[len(label) :].reshape(ids.shape)


def draw_superpixels(
    image: NDArray[np.uint8],
    ids: NDArray[np.integer],
    targets: NDArray[np.uint8],
    pixel: NDArray[np.float64],
    label: NDArray[np.uint8],
    classes: ClassTable,
    caption: str = "",
) -> Figure:
    """Left the image with the superpixels' borders, right with the superpixels that have a class.

    Args:
        image: uint8 [H, W, 3], RGB, full size.
        ids, targets: [h, w], of the image at the size that the network sees.
        pixel, label: [A, 2] (u, v) in the full-size image and uint8 [A], the annotated points.
    """
    height, width = image.shape[:2]
    figure = new_figure(2 * WIDTH, WIDTH * height / width + 0.85)
    left, right = figure.subplots(1, 2)
    left.imshow(image, interpolation="lanczos")
    left.set_title("superpixels")
    right.imshow(subdued(image), interpolation="lanczos")
    right.set_title("association targets: superpixels whose annotated points are of one class")
    colors = class_colors(classes)
    overlay = np.concatenate([colors[targets], 0.72 * (targets > 0)[..., None]], axis=2)
    # corners of the outer pixels coincide, whatever the two sizes are
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    right.imshow(overlay, interpolation="nearest", extent=extent)
    for axes, color in ((left, (1.0, 1.0, 1.0, 0.75)), (right, (1.0, 1.0, 1.0, 0.45))):
        axes.imshow(border_overlay(ids, color, max(1, 640 // ids.shape[1])), interpolation="nearest", extent=extent)
        bare(axes)
    scatter(right, pixel, 24, colors[label], edgecolors=INK, linewidths=0.8)
    right.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    left.set_title(caption, loc="right", fontweight="normal", fontsize=8)
    legend_below(figure, class_dots(classes, label))
    return figure


def border_overlay(
    ids: NDArray[np.integer], color: tuple[float, float, float, float], factor: int
) -> NDArray[np.float64]:
    """float64 [factor h, factor w, 4], RGBA: lines between superpixels, clear elsewhere."""
    large = ids.repeat(factor, axis=0).repeat(factor, axis=1)
    border = np.zeros(large.shape, bool)
    border[:-1] |= large[:-1] != large[1:]
    border[:, :-1] |= large[:, :-1] != large[:, 1:]
    return border[..., None] * np.array(color)
