"""Weak labels of one frame at the full size of nuScenes, stage by stage: ours against a plain rendering of the paper.

    python3 -m benchmarks.weak_labels --root data/nuscenes --version v1.0-mini

Prints CPU milliseconds of one thread per stage, both in turn, their ratio, and how well the results agree: shares of
labels over several seeds, and clusters by the adjusted Rand index, beside that of the package hdbscan, which takes
points as they come, with itself on the same points in another order. Without --root the frame is of the made-up city.
"""

import argparse
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable

import hdbscan
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from benchmarks.common import alternate, machine, table
from benchmarks.frames import open_frame
from benchmarks.plain import weak_labels as plain
from core.datasets.base import Reader
from core.datasets.frame import Frame
from core.label_files.files import WeakLabel, write_weak_label
from core.labeling.annotation import weak_label as ours
from core.labeling.annotation.parameters import WeakLabelParameters
from core.labeling.annotation.simulated import annotate
from core.labeling.annotation.statistics import FrameStatistics, frame_statistics
from core.labeling.clusters import find_clusters
from core.labeling.ground.ground import find_ground

PARAMETERS = WeakLabelParameters()
SHARES = ("sparse", "propagated", "negative")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", help="nuScenes data root; default: the made-up city")
    parser.add_argument("--version", default="v1.0-mini", help="of the data in --root")
    parser.add_argument("--repeats", type=int, default=10, help="measured calls of each stage")
    parser.add_argument("--seeds", type=int, default=5, help="over which shares are compared")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)  # of scikit-learn, through hdbscan
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        reader, frame = open_frame(arguments.root, folder, arguments.version)
        print(machine())
        print(f"Frame {frame.token} with {len(frame.sweeps)} sweeps; one thread, median of {arguments.repeats} calls")
        print(table(timing_rows(reader, frame, folder, arguments.repeats)), end="\n\n")
        print(table(share_rows(reader, frame, arguments.seeds)), end="\n\n")
        print(table(agreement_rows(rest_of(reader, frame))))


def timing_rows(reader: Reader, frame: Frame, folder: str, repeats: int) -> list[dict[str, str]]:
    """CPU time of each stage and of the whole, ours and plain."""
    functions = {f"{stage}/ours": function for stage, function in our_stages(reader, frame, folder).items()}
    functions |= {f"{stage}/plain": function for stage, function in plain_stages(reader, frame, folder).items()}
    seconds = {name: statistics.median(times) for name, times in alternate(functions, repeats).items()}
    rows = []
    for stage in (name.removesuffix("/ours") for name in functions if name.endswith("/ours")):
        our, their = seconds[f"{stage}/ours"], seconds[f"{stage}/plain"]
        rows.append(
            {
                "stage": stage,
                "plain, ms": f"{1e3 * their:.1f}",
                "ours, ms": f"{1e3 * our:.1f}",
                "ratio": f"{their / our:.1f}",
            }
        )
    return rows


def our_stages(reader: Reader, frame: Frame, folder: str) -> dict[str, Callable[[], object]]:
    """Our stages, each with the same input at every call, and the whole."""
    points, labels, in_view = ours.read_key_frame(reader, frame)
    sweeps = ours.gather_sweeps(reader, frame, PARAMETERS)
    seen = np.flatnonzero(in_view)
    xyz, classes = points[seen, :3], reader.classes
    ground = find_ground(xyz, sweeps, PARAMETERS, np.random.default_rng(0))
    rest = xyz[ground < 0]
    component, num_ground = ours.pre_segment(xyz, sweeps, PARAMETERS, np.random.default_rng(0))
    label, counts = ours.label_frame(reader, frame, PARAMETERS, 0)

    def annotate_frame() -> object:
        rng = np.random.default_rng(0)
        found = annotate(component, num_ground, labels[seen], classes.num_classes, classes.things, PARAMETERS, rng)
        spread = ours.spread(found, seen, len(points))
        return frame_statistics(spread, in_view, labels, classes.num_classes)

    def write(label: WeakLabel, counts: FrameStatistics) -> None:
        write_weak_label(folder, frame.token, label, vars(counts), "hash")

    return {
        "read, project": lambda: ours.read_key_frame(reader, frame),
        "gather sweeps": lambda: ours.gather_sweeps(reader, frame, PARAMETERS),
        "ground": lambda: find_ground(xyz, sweeps, PARAMETERS, np.random.default_rng(0)),
        "clusters": lambda: find_clusters(rest, PARAMETERS.clusterer),
        "annotate": annotate_frame,
        "write": lambda: write(label, counts),
        "whole": lambda: write(*ours.label_frame(reader, frame, PARAMETERS, 0)),
    }


def plain_stages(reader: Reader, frame: Frame, folder: str) -> dict[str, Callable[[], object]]:
    """The plain rendering's stages, each with the same input at every call, and the whole."""
    classes, path = reader.classes, os.path.join(folder, "plain.npz")
    key_frame, sweeps = plain.read_key_frame(frame, classes), plain.gather(frame)
    seen = key_frame.points[key_frame.in_view, :3].astype(np.float64)
    rest = seen[plain.ground(seen, sweeps) < 0]
    component, num_ground = plain.pre_segment(seen, sweeps)
    label = plain.label_frame(frame, classes, 0)
    return {
        "read, project": lambda: plain.read_key_frame(frame, classes),
        "gather sweeps": lambda: plain.gather(frame),
        "ground": lambda: plain.ground(seen, sweeps),
        "clusters": lambda: plain.clusters(rest),
        "annotate": lambda: plain.annotate(key_frame, component, num_ground, classes, np.random.default_rng(0)),
        "write": lambda: plain.write(path, label),
        "whole": lambda: plain.write(path, plain.label_frame(frame, classes, 0)),
    }


def share_rows(reader: Reader, frame: Frame, seeds: int) -> list[dict[str, str]]:
    """Smallest and largest share of each kind of label over the seeds, in per cent."""
    found = {
        "plain": [plain.label_frame(frame, reader.classes, seed).shares for seed in range(seeds)],
        "ours": [vars(ours.label_frame(reader, frame, PARAMETERS, seed)[1]) for seed in range(seeds)],
    }
    rows = []
    for name, frames in found.items():
        row = {f"shares over {seeds} seeds, %": name}
        for kind in SHARES:
            values = [100 * shares[kind] for shares in frames]
            row[kind] = f"{min(values):.2f} - {max(values):.2f}"
        rows.append(row)
    return rows


def rest_of(reader: Reader, frame: Frame) -> NDArray[np.float64]:
    """[n, 3], the points in view that are not ground (m)."""
    points, _, in_view = ours.read_key_frame(reader, frame)
    xyz = points[in_view, :3].astype(np.float64)
    sweeps = ours.gather_sweeps(reader, frame, PARAMETERS)
    return xyz[find_ground(xyz, sweeps, PARAMETERS, np.random.default_rng(0)) < 0]


def agreement_rows(xyz: NDArray[np.float64], orders: int = 4) -> list[dict[str, str]]:
    """Adjusted Rand indices between clusters: ours, the package's by itself, and those of its exact spanning tree."""
    clusterers: dict[str, Callable[[NDArray[np.float64]], NDArray[np.integer]]] = {
        "ours": lambda points: find_clusters(points, PARAMETERS.clusterer),
        "hdbscan": package_clusters,
        "hdbscan, exact": lambda points: package_clusters(points, exact=True),
    }
    found = {name: clusterer(xyz) for name, clusterer in clusterers.items()}
    rows = []
    for name, clusterer in clusterers.items():
        row = {f"adjusted Rand index, {len(xyz)} points": name}
        for other in ("hdbscan", "hdbscan, exact"):
            row[f"with {other}"] = f"{adjusted_rand_score(found[name], found[other]):.4f}"
        again = []
        for seed in range(orders):
            order = np.random.default_rng(seed).permutation(len(xyz))
            cluster = np.empty(len(xyz), np.int32)
            cluster[order] = clusterer(xyz[order])
            again.append(adjusted_rand_score(found[name], cluster))
        row[f"with itself in {orders} other orders, least"] = f"{min(again):.4f}"
        rows.append(row)
    return rows


def package_clusters(xyz: NDArray[np.float64], exact: bool = False) -> NDArray[np.integer]:
    """The package's clusters, of points as they come; `exact`: without shortening the search for the spanning tree."""
    own = PARAMETERS.clusterer
    clusterer = hdbscan.HDBSCAN(
        min_cluster_size=own.min_cluster_size,
        cluster_selection_epsilon=own.cluster_selection_epsilon,
        approx_min_span_tree=not exact,
        core_dist_n_jobs=1,
    )
    return clusterer.fit_predict(xyz)


if __name__ == "__main__":
    main()
