"""Superpixels of the training frames' camera images (any data set); with --cache-images the resized images too."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.errors import UserError

if TYPE_CHECKING:
    from torchpack.utils.config import Config

    from core.datasets.base import Reader


def main() -> None:
    # only where needed: workers load this file, too, without torch
    from core.running.arguments import argument_parser
    from core.running.runtime import start

    parser = argument_parser(__doc__, config_default="configs/nuscenes/default.yaml")
    parser.add_argument(
        "--cache-images",
        nargs="*",
        metavar="SPLIT",
        help="also store the resized images of these splits (default: train and val) in dataset.image_cache, or where "
        "that is null in <dataset.superpixel>_images: samples then load several times quicker",
    )
    run = start(parser, needs_device=False)

    from torchpack import distributed as dist  # after the arguments: --help needs none of it
    from torchpack.utils.logging import logger

    from core import builder
    from core.labeling.over_data_set.jobs import ImageCacheJob, SuperpixelJob
    from core.labeling.over_data_set.prepare import check_image_cache_room, prepare
    from core.running.comm import barrier, in_first_process
    from core.steps import command_line

    config = run.config
    reader = builder.make_reader(config, "train")
    in_first_process(lambda: reader.check_files(labels=False))
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
        prepare(ImageCacheJob(cached, directory, builder.image_size(config, cached)), **processes)
    prepare(SuperpixelJob(reader, config.dataset.superpixel, builder.superpixel_parameters(config, size)), **processes)
    if caches and config.dataset.image_cache is None:
        folder = os.path.dirname(next(iter(caches)))
        logger.info(f"Images are read from there with --dataset.image_cache {folder}")


def _open_caches(config: "Config", splits: Sequence[str] | None) -> dict[str, "Reader"]:
    """{directory: reader} of the splits whose images are to be stored; no name stands for all, None for none."""
    from core import builder
    from core.running.comm import in_first_process

    known, readers = builder.CACHED_SPLITS, {}
    for split in [] if splits is None else splits or known:
        if split not in known:
            raise UserError(f"--cache-images: '{split}' is unknown; known are: {', '.join(known)}")
        reader = readers[builder.image_cache_dir(config, split)] = builder.make_reader(config, split)
        in_first_process(lambda reader=reader: reader.check_files(labels=False))  # type: ignore[misc]
    return readers


if __name__ == "__main__":
    from core.running.runtime import run_main

    run_main(main)
