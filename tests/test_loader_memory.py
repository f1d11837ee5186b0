"""A worker's memory stays flat; `benchmarks/loader_memory.py` shows it over 2 000 samples of the full size."""

import numpy as np

from benchmarks.loader_memory import memory_of_worker
from core import builder
from core.datasets.sample import SegmentationDataset
from core.running.config import load_config
from tests.entry import ASSOP2P


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
