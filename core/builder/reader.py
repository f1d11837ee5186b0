"""Opening a data set, and what the network reads of it."""

from typing import Any

from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.builder.network import LIDAR_ALONE, make_loss_weights
from core.datasets.base import Reader
from core.datasets.catalog import open_dataset
from core.errors import UserError
from core.running.comm import barrier
from core.running.config import check_conflicts


def make_reader(config: Config, split: str, sweeps: bool = False) -> Reader:
    """The reader of a split: train, val or test. The first process opens it first, and builds the index if need be.

    Args:
        sweeps: frames list their earlier sweeps, which only preparation needs.
    Raises UserError when the data root is missing or not whole in its tables.
    """
    if not dist.is_master():
        barrier()
    reader = _open_reader(config, split, config.dataset.num_sweeps if sweeps else 0)
    if dist.is_master():
        barrier()
    return reader


def _open_reader(config: Config, split: str, num_sweeps: int) -> Reader:
    dataset = config.dataset
    version = dataset.test_version if split == "test" else dataset.version
    reader = open_dataset(
        dataset.name, dataset.root, version, split, dataset.index_path, num_sweeps, keys=dataset.dict()
    )
    _settle(config, reader)
    if reader.classes.num_classes != config.data.num_classes:
        raise UserError(
            f"data.num_classes is {config.data.num_classes}, but {dataset.name} has {reader.classes.num_classes}"
        )
    reader.annotate = dataset.annotate
    return reader


SMALLEST_SIDE = 17
"""Pixels that the longer side of an image needs: the image branch halves it four times, and normalises what is left."""


def _settle(config: Config, reader: Reader) -> None:
    """Fills in what the configuration leaves to the data: null and auto."""
    data, dataset, model = config.data, config.dataset, config.model
    if data.num_classes is None:
        data.num_classes = reader.classes.num_classes
    if model.in_channel is None:
        model.in_channel = len(point_features(config, reader))
    if dataset.annotate == "auto":
        dataset.annotate = "in_view" if reader.has_cameras else "all"
    if model.name == "auto":
        projects = make_loss_weights(config).association > 0
        model.name = f"spvcnn_swiftnet18{'_assop2p' * projects}" if reader.has_cameras else LIDAR_ALONE
        logger.info(f"model.name auto: {model.name}, since there are {'' if reader.has_cameras else 'no '}cameras.")
    if model.name == LIDAR_ALONE:
        dataset.points = "all"
    if config.estep.foreground_classes is None:
        grounds = reader.classes.grounds if config.step.round > 1 else ()
        config.estep.foreground_classes = [*reader.classes.things, *grounds]
    check_conflicts(config)


def image_size(config: Config, reader: Reader) -> tuple[int, int]:
    """(height, width) of the images as the network sees them."""
    if config.dataset.image_size is not None:
        key, (height, width) = "dataset.image_size", config.dataset.image_size
    else:
        camera, rate = next((view for frame in reader for view in frame.cameras), None), config.dataset.image_crop_rate
        if camera is None:
            raise UserError(
                f"dataset.image_size: null, and no frame of split '{reader.split}' has an image to go by; set it, or "
                f"model.name {LIDAR_ALONE}"
            )
        key, height, width = "dataset.image_crop_rate", round(camera.height * rate), round(camera.width * rate)
    if min(height, width) < 1 or max(height, width) < SMALLEST_SIDE:
        raise UserError(
            f"{key}: too small (it makes images of {height}x{width} pixels, one side should have {SMALLEST_SIDE}); set "
            "a larger one"
        )
    return height, width


def network_input(config: Config, reader: Reader, precision: str = "float32") -> dict[str, Any]:
    """What the network's input and output mean, in plain values: see core/training/network_input.py.

    Args:
        precision: that it computes in; E-steps and evaluations always take float32.
    """
    images: dict[str, Any] = {}
    if reads_images(config):
        images["image_normalize"] = config.dataset.image_normalize
        images["image_size"] = list(image_size(config, reader))
    return {
        "features": point_features(config, reader),
        "classes": list(reader.classes.names),
        "voxel_size": config.dataset.voxel_size,
        **images,
        "points": config.dataset.points,
        "precision": precision,
    }


def point_features(config: Config, reader: Reader) -> list[str]:
    """Names of the features of a point that the network takes, in their order."""
    return ["x", "y", "z", *reader.features, *(["R", "G", "B"] if config.dataset.use_color else [])]


def check_features(config: Config, reader: Reader) -> None:
    names = point_features(config, reader)
    if config.model.in_channel not in (None, len(names)):
        raise UserError(
            f"model.in_channel is {config.model.in_channel}, but points have {len(names)} features: {', '.join(names)} "
            f"(dataset.use_color {str(config.dataset.use_color).lower()})"
        )


def reads_images(config: Config) -> bool:
    """Whether samples hold images: not for the point branch alone, unless points take colours from them."""
    return config.model.name != LIDAR_ALONE or config.dataset.use_color
