"""Superpixels of the training frames' camera images (any data set); with --cache-images the resized images too."""

import os
from collections.abc import Sequence
from typing import Any

from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core import builder
from core.comm import barrier
from core.datasets.base import Reader
from core.labeling.prepare import check_image_cache_room, prepare_image_cache, prepare_superpixels
from core.runtime import argument_parser, run_main, start
from core.steps import command_line


def main() -> None:
    parser = argument_parser(__doc__, config_default="configs/nuscenes/default.yaml")
    parser.add_argument(
        "--cache-images",
        nargs="*",
        choices=builder.CACHED_SPLITS,
        metavar="SPLIT",
        help="also store the resized images of these splits (default: train and val) in dataset.image_cache, or where "
        "that is null in <dataset.superpixel>_images: samples then load several times quicker",
    )
    run = start(parser, needs_device=False)
    config = run.config
    reader = builder.make_reader(config, "train")
    reader.check_files(labels=False)
    size = builder.image_size(config, reader)
    caches = _open_caches(config, run.arguments.cache_images)
    if caches:
        check_image_cache_room(caches, size, dist.rank())
    processes: dict[str, Any] = {
        "rank": dist.rank(),
        "world_size": dist.size(),
        "num_workers": config.workers_per_gpu,
        "barrier": barrier,
        "command": command_line(),
    }
    for directory, cached in caches.items():
        prepare_image_cache(cached, directory, builder.image_size(config, cached), **processes)
    prepare_superpixels(reader, config.dataset.superpixel, builder.superpixel_parameters(config, size), **processes)
    if caches and config.dataset.image_cache is None:
        folder = os.path.dirname(next(iter(caches)))
        logger.info(f"Images are read from there with --dataset.image_cache {folder}")


def _open_caches(config: Config, splits: Sequence[str] | None) -> dict[str, Reader]:
    """{directory: reader} of the splits whose images are to be stored; no name stands for all, None for none."""
    if splits is None:
        return {}
    readers = {}
    for split in splits or builder.CACHED_SPLITS:
        reader = readers[builder.image_cache_dir(config, split)] = builder.make_reader(config, split)
        reader.check_files(labels=False)
    return readers


if __name__ == "__main__":
    run_main(main)
