"""What is understood of a data set, before anything runs: `python3 -m core.doctor CONFIG`."""

import os
from collections.abc import Iterator

import numpy as np
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core import builder
from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.datasets.point_checks import is_valid
from core.errors import UserError
from core.running.arguments import argument_parser
from core.running.runtime import start

SPLITS = ("train", "val", "test")
LOOKED_INTO = 5
"""Frames of a split, spread over it, whose files are opened."""


def main() -> None:
    """Shows each split of a configuration's data set, and draws the points of one frame into its images."""
    parser = argument_parser("Shows what is understood of a data set.")
    parser.add_argument("--output", metavar="DIR", default="runs/doctor", help="where the picture goes")
    run = start(parser, needs_device=False)
    opened: dict[str, Reader] = {}
    for split in SPLITS:
        try:
            opened[split] = builder.make_reader(run.config, split)
        except UserError as error:
            if split == "train":
                raise
            logger.info(f"split {split}: {error}")
    for line in opened["train"].notes():
        logger.info(line)
    for split, reader in opened.items():
        for line in describe_split(split, reader):
            logger.info(line)
    path = draw_frame(run.config, opened, run.arguments.output)
    if path is not None:
        logger.info(f"points in the images of one frame: {path}")


def describe_split(split: str, reader: Reader) -> Iterator[str]:
    """Frames, columns with their ranges, share of points in view and classes, over a few frames."""
    frames = reader.spread(LOOKED_INTO)
    labelled = sum(reader.has_labels(frame) for frame in reader)
    yield f"split {split}: {len(reader)} frames, {labelled} with labels"
    if not frames:
        return
    clouds = [reader.load_points(frame) for frame in frames]
    sizes = sorted(map(len, clouds))
    yield f"{split}, {len(frames)} frames opened: {sizes[0]} to {sizes[-1]} points"
    for name, column in zip(
        ("x", "y", "z", *reader.features), np.concatenate([cloud[is_valid(cloud)] for cloud in clouds]).T, strict=True
    ):
        low, middle, high = np.percentile(column, (1, 50, 99))
        yield (
            f"{split}, column {name}: {column.min():.4g} to {column.max():.4g}, median {middle:.4g}, "
            f"98 % in {low:.4g} to {high:.4g}"
        )
    seen = [reader.project(frame, cloud) for frame, cloud in zip(frames, clouds, strict=True)]
    for name in dict.fromkeys(view.name for frame in frames for view in frame.cameras):
        yield f"{split}, camera {name}: {_share_of_camera(name, frames, seen):.1f} % of the points"
    yield f"{split}, in view of any camera: {100 * np.mean([projection.seen.mean() for projection in seen]):.1f} %"
    counts = np.zeros(reader.classes.num_classes, np.int64)
    for frame, cloud in zip(frames, clouds, strict=True):
        if reader.has_labels(frame):
            counts += np.bincount(reader.load_labels(frame, len(cloud)), minlength=len(counts))
    if counts.any():
        shares = zip(reader.classes.names, 100 * counts / counts.sum(), strict=True)
        yield f"{split}, labels: {', '.join(f'{name} {share:.2f} %' for name, share in shares if share)}"


def _share_of_camera(name: str, frames: list[Frame], seen: list) -> float:
    places = [[view.name for view in frame.cameras] for frame in frames]
    shares = [(p.camera == n.index(name)).mean() for n, p in zip(places, seen, strict=True) if name in n]
    return 100 * float(np.mean(shares))


def draw_frame(config: Config, opened: dict[str, Reader], directory: str) -> str | None:
    """Draws a frame in the middle of the first split that has images; the path, or None where none has."""
    from core.figures.cameras import cameras_figure
    from core.figures.style import save_figure

    for reader in opened.values():
        for frame in reader.spread(LOOKED_INTO)[LOOKED_INTO // 2 :]:
            if frame.cameras:
                path = os.path.join(directory, f"{config.dataset.name}_{frame.token}.png")
                distance = np.linalg.norm(reader.load_points(frame)[:, :3], axis=1)
                save_figure(cameras_figure(reader, frame, distance), path)
                return path
    return None
