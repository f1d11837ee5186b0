"""A training sample at the full size of nuScenes, stage by stage: ours against a plain rendering of the published one.

    python3 -m benchmarks.loader --root data/nuscenes --version v1.0-mini

Prints CPU milliseconds of one thread per stage, both in turn, and their ratio; checks first that both samples are the
same. Weak labels, superpixels and the image cache are made beforehand, in a temporary folder. Without --root the frame
is one of the made-up city. Files are read from the system's cache: a disk's own time is not in the numbers.
"""

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.common import alternate, machine, table
from benchmarks.frames import open_frame
from benchmarks.plain import sample as plain
from core.datasets.association import association_targets, superpixel_ids
from core.datasets.images import resize_planar
from core.datasets.label_sources import LabelSources
from core.datasets.nuscenes import NuScenes
from core.datasets.projection import normalize_pixels
from core.datasets.sample import Sample, SegmentationDataset
from core.datasets.voxelize import voxelize
from core.label_files.files import ANNOTATED_IGNORED, read_superpixels, read_weak_label
from core.labeling.annotation.parameters import SuperpixelParameters, WeakLabelParameters
from core.labeling.over_data_set.jobs import ImageCacheJob, SuperpixelJob, WeakLabelJob
from core.labeling.over_data_set.prepare import prepare
from core.loader.collate import collate

IMAGE_SIZE = (360, 640)
VOXEL_SIZE = 0.05
BATCH = 4
TO_REACH = {"whole sample": 65, "whole sample, images cached": 15, f"collate {BATCH}": 10}
"""Goals, ms."""


@dataclass
class Scene:
    """One frame, prepared, as both sides take it.

    Attributes:
        index: of the frame in the reader.
        weak, seeds, cache: folders of weak labels, superpixels, resized images.
        turn: [3, 3], the turn and scale that ours draws in epoch 0.
    """

    reader: NuScenes
    index: int
    weak: str
    seeds: str
    cache: str
    turn: np.ndarray

    def dataset(self, cached: bool) -> SegmentationDataset:
        """Training samples."""
        return SegmentationDataset(
            self.reader,
            "train",
            voxel_size=VOXEL_SIZE,
            image_size=IMAGE_SIZE,
            labels=LabelSources(self.weak, self.seeds),
            image_cache=self.cache if cached else None,
        )

    def plain_frame(self) -> plain.PlainFrame:
        """The frame for the plain rendering."""
        return plain.find_frame(self.reader.root, self.reader.version, self.reader.frame(self.index).token)

    def plain_sample(self, frame: plain.PlainFrame) -> dict[str, np.ndarray]:
        """The plain rendering's sample."""
        view = self.reader.frame(self.index).cameras[0]
        full = (view.height, view.width)
        return plain.make_sample(frame, self.weak, self.seeds, VOXEL_SIZE, full, IMAGE_SIZE, self.turn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", help="nuScenes data root; default: the made-up city")
    parser.add_argument("--version", default="v1.0-mini", help="of the data in --root")
    parser.add_argument("--repeats", type=int, default=20, help="measured calls of each stage")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        scene = make_scene(arguments.root, arguments.version, folder)
        sample = scene.dataset(False)[scene.index]
        check_same(sample, scene)
        print(machine())
        num_points = len(scene.reader.load_points(scene.reader.frame(scene.index)))
        print(
            f"Frame {sample.token}: {num_points} points, {len(sample)} voxels in view; one thread, median of "
            f"{arguments.repeats} calls"
        )
        print(table(timing_rows(scene, arguments.repeats)))


def make_scene(root: str | None, version: str, folder: str) -> Scene:
    """Makes all that a sample needs."""
    reader, frame = open_frame(root, folder, version)
    weak, seeds, cache = (os.path.join(folder, name) for name in ("weak", "seeds", "cache"))
    prepare(WeakLabelJob(reader, weak, WeakLabelParameters(), 0))
    prepare(SuperpixelJob(reader, seeds, SuperpixelParameters(image_size=IMAGE_SIZE)))
    prepare(ImageCacheJob(reader, cache, IMAGE_SIZE))
    index = reader.tokens().index(frame.token)
    rng = np.random.default_rng([0, 0, index])
    angle, factor = rng.uniform(0, 2 * math.pi), rng.uniform(0.95, 1.05)
    cos, sin = factor * math.cos(angle), factor * math.sin(angle)
    return Scene(reader, index, weak, seeds, cache, np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, factor]]))


def check_same(ours: Sample, scene: Scene) -> None:
    """Stops where the two samples differ; the plain one's voxels are in the order of their coordinates."""
    theirs = scene.plain_sample(scene.plain_frame())
    order = np.lexsort(ours.coords.T[::-1])
    for name in ("coords", "rows", "asso_target"):
        if not np.array_equal(getattr(ours, name)[order], theirs[name]):
            raise SystemExit(f"the samples differ in {name}")
    if np.abs(ours.images - theirs["images"]).max() > 1:  # grey levels: PyTorch's rounding is not PIL's
        raise SystemExit("the samples differ in images")


def timing_rows(scene: Scene, repeats: int) -> list[dict[str, str]]:
    """CPU time of each stage and of the whole, ours and plain."""
    functions = {f"{stage}/plain": function for stage, function in plain_stages(scene).items()}
    functions |= {f"{stage}/ours": function for stage, function in our_stages(scene).items()}
    seconds = alternate(functions, repeats)
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    rows = []
    for stage in our_stages(scene):
        ours, theirs = milliseconds[f"{stage}/ours"], milliseconds[f"{stage.split(', ')[0]}/plain"]
        goal = f"{TO_REACH[stage]}" if stage in TO_REACH else ""
        row = {"stage": stage, "plain, ms": f"{theirs:.2f}", "ours, ms": f"{ours:.2f}"}
        rows.append({**row, "ratio": f"{theirs / ours:.1f}", "to reach, ms": goal})
    return rows


def our_stages(scene: Scene) -> dict[str, Callable[[], object]]:
    """The stages of `SegmentationDataset`, each on what the stages before it gave."""
    reader, frame = scene.reader, scene.reader.frame(scene.index)
    views, points = frame.cameras, reader.load_points(frame)
    images = [reader.load_image(view) for view in views]
    projection = reader.project(frame, points)
    weak = read_weak_label(scene.weak, frame.token)
    rows = np.flatnonzero(projection.seen)
    sparse = np.where(weak.sparse == ANNOTATED_IGNORED, np.uint8(0), weak.sparse)
    xyz = points[rows, :3] @ scene.turn
    chosen = rows[voxelize(xyz, VOXEL_SIZE, sparse[rows]).representative]
    camera, pixels = projection.camera[chosen], projection.pixel[chosen]
    tokens = [view.token for view in views]
    maps = read_superpixels(scene.seeds, frame.token, tokens, IMAGE_SIZE)
    normalized = normalize_pixels(pixels, camera, views)
    fresh, cached = scene.dataset(False), scene.dataset(True)
    batch = [fresh[epoch, scene.index] for epoch in range(BATCH)]
    return {
        "decode": lambda: [reader.load_image(view) for view in views],
        "resize": lambda: [resize_planar(image, IMAGE_SIZE) for image in images],
        "read points": lambda: reader.load_points(frame),
        "project": lambda: reader.project(frame, points),
        "weak labels": lambda: read_weak_label(scene.weak, frame.token).point_candidates(),
        "voxels": lambda: voxelize(xyz, VOXEL_SIZE, sparse[rows]),
        "superpixels": lambda: read_superpixels(scene.seeds, frame.token, tokens, IMAGE_SIZE),
        "targets": lambda: association_targets(
            superpixel_ids(maps, camera, normalized), sparse[chosen], np.ones(len(chosen), bool)
        ),
        "whole sample": lambda: fresh[0, scene.index],
        "whole sample, images cached": lambda: cached[0, scene.index],
        f"collate {BATCH}": lambda: collate(batch),
    }


def plain_stages(scene: Scene) -> dict[str, Callable[[], object]]:
    """The stages of `plain.make_sample`."""
    frame, view = scene.plain_frame(), scene.reader.frame(scene.index).cameras[0]
    points, full = plain.load_points(frame), (view.height, view.width)
    images = [plain.decode(path) for path in frame.camera_files]
    masks, pixels = plain.project(frame, points, full)
    sparse = plain.load_weak_label(scene.weak, frame.lidar_token)["sparse"]
    rows = np.flatnonzero(np.any(masks, axis=0))
    xyz = points[rows, :3] @ scene.turn
    chosen = rows[plain.voxelize(xyz, VOXEL_SIZE, sparse[rows])[1]]
    maps = plain.load_superpixels(scene.seeds, frame)
    own_masks, own_pixels = [mask[chosen] for mask in masks], [pixel[chosen] for pixel in pixels]
    batch = [scene.plain_sample(frame)] * BATCH
    return {
        "decode": lambda: [plain.decode(path) for path in frame.camera_files],
        "resize": lambda: [plain.resize(image, IMAGE_SIZE) for image in images],
        "read points": lambda: plain.load_points(frame),
        "project": lambda: plain.project(frame, points, full),
        "weak labels": lambda: plain.load_weak_label(scene.weak, frame.lidar_token),
        "voxels": lambda: plain.voxelize(xyz, VOXEL_SIZE, sparse[rows]),
        "superpixels": lambda: plain.load_superpixels(scene.seeds, frame),
        "targets": lambda: plain.association_targets(
            plain.superpixels_of_points(maps, own_masks, own_pixels), sparse[chosen]
        ),
        "whole sample": lambda: scene.plain_sample(frame),
        f"collate {BATCH}": lambda: plain.collate(batch),
    }


if __name__ == "__main__":
    main()
