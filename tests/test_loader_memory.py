"""The memory of processes and of loader processes; `benchmarks/loader_memory.py` shows it at full size."""

import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.loader_memory import memory_of_worker
from core import builder
from core.datasets.sample import SegmentationDataset
from core.running.config import load_config
from tests.entry import ASSOP2P
from tests.helpers import HERE


class Leaking:
    """Keeps 100 kB of each sample."""

    def __init__(self, dataset):
        self.dataset, self.kept = dataset, []

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, key):
        self.kept.append(np.ones(100_000, np.uint8))
        return self.dataset[key]


def dataset_of(project) -> SegmentationDataset:
    config = load_config(ASSOP2P, overrides=project.words(dataset__use_augment="true"))
    return builder.make_dataset(config, builder.make_reader(config, "train"), "train")


def test_memory_stays_flat(prepared):
    dataset = dataset_of(prepared)
    after_40, *_, last = memory_of_worker(dataset, len(dataset), 160, 40)
    assert last - after_40 < 2e6
    after_40, *_, last = memory_of_worker(Leaking(dataset), len(dataset), 160, 40)
    assert last - after_40 > 8e6


SCRIPT = """
import resource
import numpy as np
from core.running.memory import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20 // 8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
took_effect = {keep} and keep_freed_memory()
faults()
print(took_effect, sum(faults() for _ in range(3)))
"""


def faults(keep: bool) -> int:
    """Page faults of filling 64 MiB three times, after a first time."""
    command = [sys.executable, "-c", SCRIPT.format(keep=keep)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=os.path.dirname(HERE))
    took_effect, count = result.stdout.split()
    if keep and took_effect == "False":
        pytest.skip("the C library is not glibc")
    return int(count)


def test_kept_memory_is_not_asked_for_again():
    kept, mapped_anew = faults(keep=True), faults(keep=False)  # how many depends on the size of pages
    assert mapped_anew > 50 and kept < mapped_anew / 4
