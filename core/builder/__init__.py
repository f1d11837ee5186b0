"""From the configuration to objects: the only place that makes them; steps take single values from it."""

from core.builder.dataset import (
    CACHED_SPLITS,
    checkpoint_dir,
    image_cache_dir,
    make_dataset,
    make_rules,
    pseudo_label_dir,
    superpixel_parameters,
    weak_label_parameters,
)
from core.builder.loader import make_loader, make_remaining_loader, worker_context
from core.builder.network import (
    LIDAR_ALONE,
    NETWORKS,
    check_criterion,
    describe_inference,
    distribute,
    inference_views,
    make_loss_weights,
    make_model,
)
from core.builder.optimizer import amp_dtype, make_optimizer, make_schedule, training_precision
from core.builder.reader import image_size, make_reader, network_input, point_features, reads_images

__all__ = [
    "image_size",
    "make_reader",
    "network_input",
    "point_features",
    "reads_images",
    "CACHED_SPLITS",
    "checkpoint_dir",
    "image_cache_dir",
    "make_dataset",
    "make_rules",
    "pseudo_label_dir",
    "superpixel_parameters",
    "weak_label_parameters",
    "make_loader",
    "make_remaining_loader",
    "worker_context",
    "LIDAR_ALONE",
    "NETWORKS",
    "check_criterion",
    "describe_inference",
    "distribute",
    "inference_views",
    "make_loss_weights",
    "make_model",
    "amp_dtype",
    "make_optimizer",
    "make_schedule",
    "training_precision",
]
