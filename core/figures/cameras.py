"""All images of a frame with its points drawn in, by distance: they show at a glance whether a calibration is right."""

import math
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.figures.style import bare, marker_size, new_figure

WIDTH = 6.4  # of a panel, inches
FAR = 40.0  # m, where the colours end


def cameras_figure(reader: Reader, frame: Frame, value: NDArray[np.floating]) -> Figure:
    """One panel for each camera of a frame.

    Args:
        value: [N], distance of each point (m).
    """
    columns = min(3, len(frame.cameras))
    rows = math.ceil(len(frame.cameras) / columns)
    heights = [WIDTH * view.height / view.width for view in frame.cameras]
    figure = new_figure(columns * WIDTH, rows * (max(heights) + 0.3))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    points = reader.load_points(frame)
    for axes, view, height in zip(panels, frame.cameras, heights, strict=False):
        alone = replace(frame, cameras=(view,))
        projection = reader.project(alone, points)
        seen = np.flatnonzero(projection.seen)
        seen = seen[np.argsort(-value[seen])]  # near ones last
        axes.imshow(reader.load_image(view))
        size = marker_size(max(len(seen), 1), WIDTH, height)
        axes.scatter(*projection.pixel[seen].T, s=size, c=value[seen], cmap="turbo_r", vmin=0, vmax=FAR, linewidths=0)
        axes.set(xlim=(-0.5, view.width - 0.5), ylim=(view.height - 0.5, -0.5))
        axes.set_title(f"{view.name}: {len(seen)} points")
        bare(axes)
    for axes in panels[len(frame.cameras) :]:
        axes.axis("off")
    return figure
