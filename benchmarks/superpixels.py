"""Superpixels of camera images, and the files that hold them: ours against the published way.

    python3 -m benchmarks.superpixels --images data/nuscenes/samples

The published way makes one OpenCV object for each image. Prints CPU milliseconds per image (median over images and
repeats, taken in turn in one process, one thread), how many times faster than the published way that is, and the
pixels whose label differs from its. Without --images, of six images of a made-up street.
"""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numba
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import alternate, machine, table
from core.datasets.images import resize_image
from core.label_files.files import SUPERPIXEL, label_path, read_superpixels, write_superpixels
from core.labeling.annotation.parameters import SuperpixelParameters
from core.labeling.superpixels.superpixels import make_superpixels

STREET = "--train-scenes 1 --val-scenes 0 --test-scenes 0 --frames 1 --azimuth-steps 16 --image-size 900 1600"
MOST_IMAGES = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", metavar="DIR", help="camera images: DIR/**/*.jpg, the first 12 in order of names")
    parser.add_argument("--image-size", nargs=2, type=int, default=(360, 640), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    numbers = SuperpixelParameters(image_size=tuple(arguments.image_size))
    images = [resize_image(image, numbers.image_size) for image in camera_images(arguments.images)]

    print(f"{machine()}, OpenCV {cv2.__version__}, numba {numba.__version__}; one thread")
    print(f"{len(images)} images of {arguments.images or 'a made-up street'}; {numbers}; {arguments.repeats} repeats\n")
    ways: dict[str, Callable[[Any], Any]] = {
        "a new OpenCV object per image": partial(published, numbers=numbers),
        "one OpenCV object": partial(make_superpixels, parameters=replace(numbers, implementation="opencv")),
        "numba": partial(make_superpixels, parameters=numbers),
    }
    expected = [published(image, numbers) for image in images]
    rows = timings("superpixels", ways, images, arguments.repeats)
    for row, way in zip(rows, ways.values(), strict=True):
        row["other labels"] = str(sum(int((way(i) != e).sum()) for i, e in zip(images, expected, strict=True)))
    print(table(rows) + "\n")

    maps, tokens = np.stack(expected), [str(k) for k in range(len(images))]
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Callable[[], Any]] = {
            "write": lambda: write_superpixels(folder, "frame", tokens, maps, "hash"),
            "read": lambda: read_superpixels(folder, "frame", tokens, numbers.image_size, "hash"),
        }
        files["write"]()
        times = {name: f"{1000 * statistics.median(t):.1f}" for name, t in alternate(files, arguments.repeats).items()}
        size = os.path.getsize(label_path(folder, SUPERPIXEL, "frame")) / 1000
    print(
        table([{"file of": f"{len(maps)} images", "kB": f"{size:.0f}", **{f"ms to {n}": t for n, t in times.items()}}])
    )


def timings(
    title: str, ways: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any], repeats: int
) -> list[dict[str, str]]:
    """A row per way: median CPU time over all inputs, and how many times the first way's speed that is."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for value in inputs:
        for name, times in alternate({name: partial(way, value) for name, way in ways.items()}, repeats).items():
            seconds[name] += times
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    return [
        {title: name, "ms per image": f"{1000 * median:.2f}", "times as fast": f"{first / median:.1f}"}
        for name, median in medians.items()
    ]


def camera_images(folder: str | None) -> list[NDArray[np.uint8]]:
    """Full-size images uint8 [H, W, 3], RGB, of a folder or of a made-up street."""
    with tempfile.TemporaryDirectory() as street:
        if folder is None:
            command = [sys.executable, "prepare_synthetic_nusc.py", "--root", f"{street}/city", *STREET.split()]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        paths = sorted(glob.glob(os.path.join(folder or street, "**", "*.jpg"), recursive=True))
        if not paths:
            raise SystemExit(f"{folder}: no *.jpg in it")
        return [np.array(Image.open(path).convert("RGB")) for path in paths[:MOST_IMAGES]]


def published(image: NDArray[np.uint8], numbers: SuperpixelParameters) -> NDArray[Any]:
    """By OpenCV throughout, with an object of its own."""
    height, width = numbers.image_size
    yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.equalizeHist(yuv[..., 0])
    hsv = cv2.cvtColor(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), cv2.COLOR_RGB2HSV)
    seeds = cv2.ximgproc.createSuperpixelSEEDS(
        *(width, height, 3, numbers.num_superpixels, numbers.num_levels, numbers.prior),
        *(numbers.histogram_bins, numbers.double_step),
    )
    seeds.iterate(hsv, numbers.iterations)
    return seeds.getLabels()


if __name__ == "__main__":
    main()
