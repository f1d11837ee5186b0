"""Opening a frame of Waymo Open: from one row group a segment, as downloads may have, and packed.

    python3 -m benchmarks.waymo_frames

Makes a segment of the city at the real sizes (64 x 2650 cells, two returns, images of 1920 x 1280), rewrites its files
with all rows in one row group, and packs them. Seconds are of one thread: points, pixels and labels of a frame, and its
five images. Reading from one row group decodes all turns before the frame's; real segments have some 200, this one few.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import pyarrow.parquet as pq

from benchmarks.common import machine, table
from core.datasets.waymo import Waymo
from core.datasets.waymo.components import LIDAR, POSE, PROJECTION
from core.datasets.waymo.files import FOLDERS
from core.datasets.waymo.pack import COLUMNS, _batches, pack_split
from core.synthetic.generate import City, generate_city


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=8, help="frames with labels; a turn without stands between two")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="processes that pack")
    arguments = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        download, root = os.path.join(folder, "download"), os.path.join(folder, "data")
        city = City("waymo", 1, 0, 0, arguments.frames, 2650, (1280, 1920), 0)
        generate_city(download, city)
        one_group(download)
        begun = time.perf_counter()
        pack_split(download, root, "train", num_workers=arguments.workers)
        packing = time.perf_counter() - begun
        taken = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(root) for name in names)
        print(f"Packed in {packing:.1f} s, {taken / 1e6:.0f} MB, {taken / 1e6 / arguments.frames:.1f} MB a frame")
        print(table(rows(download, Waymo(root, "v2", "train", os.path.join(folder, "index")), arguments.repeats)))


def one_group(root: str) -> None:
    """Rewrites the large components with all rows in one row group."""
    for component in COLUMNS:
        folder = os.path.join(root, FOLDERS["train"], component)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            content = pq.read_table(path)
            pq.write_table(content, path, row_group_size=len(content), compression="zstd")


def rows(download: str, reader: Waymo, repeats: int) -> list[dict[str, str]]:
    """Milliseconds of opening the last frame, least and median."""
    frame = reader.frame(len(reader) - 1)

    def points_pixels_labels() -> None:
        points = reader.load_points(frame)
        reader.project(frame, points)
        reader.load_labels(frame, len(points))

    def images() -> None:
        for camera in frame.cameras:
            reader.load_image(camera)

    def from_one_group() -> None:
        for component in (LIDAR, POSE, PROJECTION):
            folder = os.path.join(download, FOLDERS["train"], component)
            path = os.path.join(folder, f"{frame.segment}.parquet")
            list(_batches(path, component, [pq.read_metadata(path).num_rows - 1]))

    work = {
        "points, pixels and labels, packed": points_pixels_labels,
        "five images, packed": images,
        "rows of points and pixels, one row group": from_one_group,
    }
    return [{"work": name, **milliseconds(function, repeats)} for name, function in work.items()]


def milliseconds(function: Callable[[], None], repeats: int) -> dict[str, str]:
    """CPU milliseconds of calls after a first one."""
    seconds = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        function()
        seconds.append(time.process_time() - begun)
    return {"least, ms": f"{1000 * min(seconds[1:]):.1f}", "median, ms": f"{1000 * statistics.median(seconds[1:]):.1f}"}


if __name__ == "__main__":
    main()
