"""Memory of a loader's worker over many samples: it should stay flat.

    python3 -m benchmarks.loader_memory --root data/nuscenes --version v1.0-mini

Prints every so many samples how much memory of its own (anonymous, not shared) the worker process holds. Samples are
training samples at the full size of nuScenes, in batches of four. Without --root they are of
the made-up city.
"""

import argparse
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.common import machine, table
from benchmarks.loader import make_scene
from core.builder import worker_context
from core.datasets.sample import Sample
from core.loader.collate import Batch, collate

BATCH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--root", help="nuScenes data root; default: the made-up city")
    parser.add_argument("--version", default="v1.0-mini", help="of the data in --root")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--every", type=int, default=200, help="samples between the lines")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scene = make_scene(arguments.root, arguments.version, folder)
        columns = {}
        for name, cached in (("decoded", False), ("cached", True)):
            columns[name] = memory_of_worker(
                scene.dataset(cached), len(scene.reader), arguments.samples, arguments.every
            )
    print(machine())
    rows = []
    for i in range(len(columns["decoded"])):
        row = {"samples": str((i + 1) * arguments.every)}
        rows.append({**row, **{f"{name}, MB": f"{values[i] / 1e6:.1f}" for name, values in columns.items()}})
    print(table(rows))


def memory_of_worker(dataset: Dataset[Sample], num_frames: int, samples: int, every: int) -> list[int]:
    """Bytes that one worker holds of its own after `every`, 2 * `every`, ... samples of (epoch, index)."""
    order: Any = [(i // num_frames, i % num_frames) for i in range(samples)]
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=BATCH,
        sampler=order,
        num_workers=1,
        collate_fn=collate_and_measure,
        multiprocessing_context=worker_context(),
    )
    held = [memory for memory, _ in loader]
    return held[every // BATCH - 1 :: every // BATCH]


def collate_and_measure(samples: Sequence[Sample]) -> tuple[int, Batch]:
    """What this process holds, and the batch."""
    return own_memory(), collate(samples)


def own_memory() -> int:
    """Anonymous memory of this process, bytes (Linux)."""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("RssAnon:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
