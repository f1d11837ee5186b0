"""Batches, by processes beside training's own."""

import multiprocessing
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.datasets.sample import SegmentationDataset
from core.loader.collate import collate
from core.loader.handover import Handover, allow_descriptors, free_shared_memory, wanted_shared_memory
from core.loader.sampler import EpochSampler
from core.loader.worker_signals import follow_training
from core.running.temporary import make_room_for_sockets


def make_loader(config: Config, dataset: SegmentationDataset, batch_size: int | None = None) -> DataLoader:
    """Batches of this process. Training: shuffled, equally many for every process; else each frame exactly once.

    Args:
        batch_size: frames a batch; None: `batch_size` of training, `eval_batch_size` of the other modes.
    """
    training = dataset.mode == "train"
    sampler = EpochSampler(
        len(dataset), dist.rank(), dist.size(), shuffle=training, seed=config.train.seed, pad=training
    )
    return _loader(config, dataset, sampler, batch_size or (config.batch_size if training else config.eval_batch_size))


def make_remaining_loader(config: Config, dataset: SegmentationDataset, indices: list[int]) -> DataLoader:
    """Batches of the given frames, in order."""
    return _loader(config, dataset, indices, config.eval_batch_size)


def _loader(config: Config, dataset: SegmentationDataset, sampler: Any, batch_size: int) -> DataLoader:
    """Loader processes live as long as the loop over their batches, so that validation's are not there in training."""
    workers = min(config.workers_per_gpu, len(sampler))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_handover(dataset, workers, batch_size) if workers else collate,
        pin_memory=torch.cuda.is_available(),
        timeout=60 * config.train.patience if workers else 0,
        multiprocessing_context=worker_context() if workers else None,
        worker_init_fn=follow_training if workers else None,
    )


def _handover(dataset: SegmentationDataset, workers: int, batch_size: int) -> Handover:
    """How the loader processes hand batches over; says so where shared memory is too little for it."""
    loaders = workers * dist.local_size()
    images = 0  # pixels of a sample's
    if dataset.image_size is not None:
        cameras = next((len(frame.cameras) for frame in dataset.reader if frame.cameras), 1)
        images = cameras * dataset.image_size[0] * dataset.image_size[1]
    free, wanted = free_shared_memory(), wanted_shared_memory(loaders, batch_size, images)
    if free < wanted:
        logger.info(
            f"/dev/shm: {free / 1e6:.0f} MB free, {loaders} loader processes want about {wanted / 1e6:.0f} MB: where "
            "it is full, batches go through pipes, which is slower; give a container more "
            f"(--shm-size {max(1, round(2 * wanted / 1e9))}g), or lower workers_per_gpu"
        )
    return Handover(loaders, allow_descriptors(workers))


def worker_context() -> Any:
    """Workers come from a clean server process: forks of this one would inherit the locks of MPI's, OpenMP's and the
    GPU driver's threads."""
    make_room_for_sockets()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.loader.server"])
    return context
