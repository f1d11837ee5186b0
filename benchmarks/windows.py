"""Components over several frames: what a click buys, by the number of frames that are pre-segmented together.

    python3 -m benchmarks.windows CONFIG [--with FILE] [--frames 24] [--windows 1 5 10 20] [--dataset.root DIR]

CONFIG is of a data set with poses and dense labels, from which clicks are simulated. Prints for each window:
components to click on and clicks (one a class noticed in them), a frame; the share of points in a component; purity,
the share of these that are of their component's majority class; shares of sparse, propagated and negative labels, and
the accuracy of the propagated ones; CPU seconds a frame.
"""

import argparse
import sys
import time
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import machine, table
from core import builder
from core.datasets.base import Reader
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate, annotations_per_class, noticed_classes
from core.labeling.annotation.windows import Window, frame_rng, pre_segment_window, windows_of
from core.running.arguments import split_overrides
from core.running.config import load_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--with", dest="overlays", action="append", default=[])
    parser.add_argument("--frames", type=int, default=24, help="so many frames of the split train, from its start")
    parser.add_argument("--windows", type=int, nargs="+", default=[1, 5, 10, 20])
    own, overrides = split_overrides(parser, sys.argv[1:])
    arguments = parser.parse_args(own)
    config = load_config(arguments.config, arguments.overlays, overrides)
    reader = builder.make_reader(config, "train", sweeps=True)
    parameters, seed = builder.weak_label_parameters(config), config.train.seed
    frames = min(arguments.frames, len(reader))
    print(f"{machine()}; {frames} frames of {reader.name}, {config.dataset.root}", flush=True)
    measure(reader, range(min(2, frames)), replace(parameters, window=2), seed)  # compiles
    rows = []
    for length in arguments.windows:
        rows.append(measure(reader, range(frames), replace(parameters, window=length), seed))
        print(" | ".join(rows[-1].values()), flush=True)
    print(table(rows))


def measure(reader: Reader, indices: range, parameters: WeakLabelParameters, seed: int) -> dict[str, str]:
    """One row of the table, over the windows of the given frames."""
    total = np.zeros(len(_COUNTS), np.int64)
    begin = time.process_time()
    for chosen in windows_of(reader, parameters.window):
        own = [i for i in chosen if i in indices]
        if own:
            rng = frame_rng(seed, reader.frame(own[0]).token)
            frames = [reader.frame(i) for i in own]
            total += count(reader, pre_segment_window(reader, frames, parameters, rng), parameters, rng)
    seconds = (time.process_time() - begin) / len(indices)
    n = dict(zip(_COUNTS, map(int, total), strict=True))
    return {
        "window": str(parameters.window),
        "components a frame": f"{n['components'] / len(indices):.1f}",
        "clicks a frame": f"{n['clicks'] / len(indices):.1f}",
        "points in one %": f"{100 * n['inside'] / n['points']:.1f}",
        "purity %": f"{100 * n['majority'] / max(n['known'], 1):.2f}",
        "sparse %": f"{100 * n['sparse'] / n['points']:.3f}",
        "propagated %": f"{100 * n['propagated'] / n['points']:.1f}",
        "negative %": f"{100 * n['negative'] / n['points']:.1f}",
        "propagated right %": f"{100 * n['right'] / max(n['propagated'], 1):.2f}",
        "s a frame": f"{seconds:.2f}",
    }


_COUNTS = (
    ("points", "components", "clicks", "inside", "majority", "known")
    + ("sparse", "propagated", "negative", "right")
)  # fmt: skip


def count(
    reader: Reader, window: Window, parameters: WeakLabelParameters, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The counts of one window, in the order of _COUNTS."""
    classes = reader.classes
    dense = [reader.load_labels(f, len(p)) for f, p in zip(window.frames, window.points, strict=True)]
    label = np.concatenate([own[rows] for own, rows in zip(dense, window.rows, strict=True)])
    component = np.concatenate(window.component)
    inside = component >= 0
    group = component[inside].astype(np.int64) * classes.num_classes + label[inside]
    counts = np.bincount(group, minlength=len(window.sizes) * classes.num_classes).reshape(-1, classes.num_classes)
    noticed = noticed_classes(counts, window.num_ground, classes.things, parameters)
    noticed[~(counts[:, 1:] > 0).any(1)] = False
    weak = annotate(component, window.num_ground, label, classes.num_classes, classes.things, parameters, rng)
    propagated = weak.propagated > 0
    values = (
        len(label),
        int(noticed.any(1).sum()),
        int(annotations_per_class(noticed, 1).sum()),
        int(inside.sum()),
        int(counts[:, 1:].max(1, initial=0).sum()),
        int(counts[:, 1:].sum()),
        int((weak.sparse > 0).sum()),
        int(propagated.sum()),
        int((weak.point_candidates() > 0).sum()),
        int((weak.propagated == label)[propagated].sum()),
    )
    return np.array(values, np.int64)


if __name__ == "__main__":
    main()
