"""How preparation gains from a second process: weak labels and superpixels of the made-up city at full size.

    python3 -m benchmarks.preparation_scaling

Prints wall seconds with one and two workers and their ratio; the start of the workers counts. The machine should have
two idle cores. The city has few frames; each is prepared several times under other names, so that there is work enough
for the start to weigh as little as it does on a real data set.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable

from benchmarks.frames import Repeated, make_city
from core.labeling.annotation.parameters import SuperpixelParameters, WeakLabelParameters

WORKERS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", help="where the city is made, or was; default: a temporary folder")
    parser.add_argument("--frames", type=int, default=4, help="key frames of the city")
    parser.add_argument("--weak-labels", type=int, default=400, help="frames to make weak labels of")
    parser.add_argument("--superpixels", type=int, default=160, help="frames to make superpixels of")
    parser.add_argument("--repeats", type=int, default=3, help="measured runs of each kind")
    arguments = parser.parse_args()
    from benchmarks.common import machine, table  # these import torch; workers load this file, too, and need none
    from core.labeling.over_data_set.jobs import SuperpixelJob, WeakLabelJob
    from core.labeling.over_data_set.prepare import prepare

    with tempfile.TemporaryDirectory() as folder:
        root = arguments.root or os.path.join(folder, "city")
        make_city(root, arguments.frames)
        index = os.path.join(folder, "index")
        weak = Repeated(root, index, 5, arguments.weak_labels // arguments.frames)
        pixels = Repeated(root, index, 0, arguments.superpixels // arguments.frames)
        seconds = {
            f"weak labels, {len(weak)} frames": measure(
                lambda path, workers: prepare(WeakLabelJob(weak, path, WeakLabelParameters(), 1), num_workers=workers),
                folder,
                arguments.repeats,
            ),
            f"superpixels, {len(pixels)} frames": measure(
                lambda path, workers: prepare(SuperpixelJob(pixels, path, SuperpixelParameters()), num_workers=workers),
                folder,
                arguments.repeats,
            ),
        }
        print(machine())
        print(f"Wall seconds, the least of {arguments.repeats} runs, the start of the workers included")
        print(table([row(name, found) for name, found in seconds.items()]))


def measure(prepare: Callable[[str, int], object], folder: str, repeats: int) -> dict[int, float]:
    """Least wall seconds of `prepare(directory, workers)` for each number of workers, taking turns."""
    least = dict.fromkeys(WORKERS, float("inf"))
    for _ in range(repeats):
        for workers in WORKERS:
            with tempfile.TemporaryDirectory(dir=folder) as directory:
                started = time.perf_counter()
                prepare(directory, workers)
                least[workers] = min(least[workers], time.perf_counter() - started)
    return least


def row(name: str, seconds: dict[int, float]) -> dict[str, str]:
    """A row of the table."""
    one, two = (seconds[workers] for workers in WORKERS)
    return {"work": name, "1 worker, s": f"{one:.1f}", "2 workers, s": f"{two:.1f}", "ratio": f"{one / two:.2f}"}


if __name__ == "__main__":
    main()
