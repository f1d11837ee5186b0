"""What the numbers mean that a network takes and gives: stored with its checkpoint, compared where that is loaded."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from torchpack.utils.logging import logger

from core.errors import UserError

STORED = "network_input"
"""Key of a checkpoint: plain values by the names of the two tables below, and `precision`, which may differ."""

MEANING = {
    "features": "point features (dataset.name, dataset.use_color)",
    "classes": "classes (dataset.name)",
    "voxel_size": "dataset.voxel_size",
    "image_normalize": "dataset.image_normalize",
}
"""With another value, what the network gives means nothing."""

CIRCUMSTANCES = {"image_size": "dataset.image_size", "points": "dataset.points"}
"""With another value it still works, as where all points are evaluated after training on those in view."""


def check_input(checkpoint: Mapping[str, Any], own: Mapping[str, Any], path: str) -> None:
    """Compares what a checkpoint says of its network's input with that of this configuration.

    A checkpoint that says nothing, such as a published one, passes with a warning, as other circumstances do.
    Raises UserError where the meaning differs, with the key and both values.
    """
    stored = checkpoint.get(STORED)
    if not isinstance(stored, Mapping):
        keys = ("voxel_size", "image_normalize", "features")
        values = ", ".join(f"{MEANING[name]} {_text(own[name])}" for name in keys if name in own)
        logger.warning(f"{path}: does not hold what its network was trained on; taken for granted: {values}.")
        return
    for difference in differences(stored, own, MEANING):
        raise UserError(f"{path}: trained with {difference}; set it as in training, or take another checkpoint")
    for difference in differences(stored, own, CIRCUMSTANCES):
        logger.warning(f"{path}: trained with {difference}.")


def check_labels_input(parameters: Mapping[str, Any], own: Mapping[str, Any], directory: str) -> None:
    """Warns where the network that gave pseudo-labels had another input: labels of points stay what they are, but a
    forgotten key is likely.

    Args:
        parameters: of the directory's meta.json.
    """
    for difference in differences(parameters.get(STORED, {}), own, MEANING | CIRCUMSTANCES):
        logger.warning(f"{directory}: these pseudo-labels were made with {difference}.")


def differences(stored: Mapping[str, Any], own: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[str]:
    """ "KEY VALUE, here it is VALUE" for each of the names whose values differ; those that either lacks do not."""
    for name, key in names.items():
        if name in stored and name in own and stored[name] != own[name]:
            yield f"{key} {_text(stored[name])}, here it is {_text(own[name])}"


def _text(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()
