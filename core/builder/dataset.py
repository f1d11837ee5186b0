"""Samples with the labels that a step reads, and where files of labels lie."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, TypeVar

from torchpack import distributed as dist
from torchpack.utils.config import Config

from core.builder.network import make_loss_weights
from core.builder.reader import check_features, image_size, reads_images
from core.datasets.augmentation import Augmentation
from core.datasets.base import Reader
from core.datasets.image_cache import cache_parameters
from core.datasets.label_sources import LabelSources
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.label_files.files import IMAGE_CACHE, PSEUDO_LABEL, SUPERPIXEL, WEAK_LABEL, check_directory
from core.labeling.annotation.parameters import ClustererParameters, SuperpixelParameters, WeakLabelParameters
from core.labeling.pseudo_labels import PseudoLabelRules
from core.running.comm import barrier

T = TypeVar("T")


def make_dataset(
    config: Config,
    reader: Reader,
    mode: str,
    run_dir: str | None = None,
    pseudo_label_dir: str | None = None,
    every_point: bool = False,
    scored: bool = True,
) -> SegmentationDataset:
    """The samples of a reader. Which labels are loaded follows from the mode and from the criterion.

    Args:
        mode: "train", "estep" or "eval" (see `SegmentationDataset`).
        run_dir, pseudo_label_dir: where pseudo-labels are read from, for M-steps and the second E-step.
        every_point: "eval": predictions are wanted for points that take no part, too.
        scored: "eval": predictions are compared with the dense labels, which are there.
    Raises UserError when label files are missing or do not fit, before any long work.
    """
    dataset = config.dataset
    check_features(config, reader)
    size = image_size(config, reader) if reads_images(config) else None
    weights = make_loss_weights(config)
    weak = mode == "estep" or (mode == "train" and not weights.dense)
    superpixels = mode == "train" and weights.association > 0
    pseudo = _reads_pseudo_labels(config, mode)
    directories: dict[str, str | None] = {
        "weak_label_dir": dataset.sparse_label_path if weak else None,
        "superpixel_dir": dataset.superpixel if superpixels else None,
        "pseudo_label_dir": _pseudo_label_source(config, run_dir, pseudo_label_dir) if pseudo else None,
    }
    hashes = _check_labels(config, reader, directories, size)
    return SegmentationDataset(
        reader,
        mode,
        voxel_size=dataset.voxel_size,
        image_size=size,
        points=dataset.points,
        labels=LabelSources(**directories, hashes=hashes),
        dense_labels=weights.dense > 0 if mode == "train" else mode == "eval" and scored,
        augmentation=_augmentation(config),
        use_color=dataset.use_color,
        every_point=every_point,
        seed=config.train.seed,
        image_cache=_image_cache(config, reader, size) if size is not None else None,
    )


def _augmentation(config: Config) -> Augmentation:
    dataset = config.dataset
    return Augmentation(
        rotation=dataset.rotation,
        scale=tuple(dataset.scale),
        flip=dataset.flip,
        colors=dataset.use_augment,
        color_jitter=tuple(dataset.color_jitter),
        jitter_probability=dataset.color_jitter_prob,
        gray_probability=dataset.grayscale_prob,
        share=dataset.pts_sr,
    )


def _reads_pseudo_labels(config: Config, mode: str) -> bool:
    if mode == "estep":
        return config.step.round > 1
    return mode == "train" and make_loss_weights(config).pseudo > 0


def _pseudo_label_source(config: Config, run_dir: str | None, given: str | None) -> str:
    """Where this step reads pseudo-labels: round 1's for the second E-step, this round's for an M-step."""
    if given is not None:
        return given
    if run_dir is None:
        raise UserError("--pseudo-label-dir is needed: this step reads pseudo-labels, and there is no --run-dir")
    return pseudo_label_dir(run_dir, config.step.round - 1 if config.step.kind == "estep" else config.step.round)


def _check_labels(
    config: Config, reader: Reader, directories: dict[str, str | None], size: tuple[int, int] | None
) -> dict[str, str]:
    """Checks the label directories that are read; returns {directory: hash that each of its files must carry}."""
    classes = list(reader.classes.names)
    hashes = {}

    def check(directory: str | None, kind: str, tokens: Iterable[str], expected: dict[str, Any]) -> None:
        if directory is not None:
            hashes[directory] = _check_directory(config, directory, kind, tokens, expected)

    labels = {"parameters": weak_label_parameters(config), "classes": classes}
    check(directories["weak_label_dir"], WEAK_LABEL, reader.tokens(), labels)
    if size is not None:
        seeds = {"parameters": superpixel_parameters(config, size)}
        check(directories["superpixel_dir"], SUPERPIXEL, reader.tokens(), seeds)
    check(directories["pseudo_label_dir"], PSEUDO_LABEL, reader.tokens(), {"classes": classes})
    return hashes


def _check_directory(config: Config, directory: str, kind: str, tokens: Iterable[str], expected: dict[str, Any]) -> str:
    """Checks a label directory, the first process its files too; returns the hash that each of these must carry."""
    wanted = tokens if dist.is_master() else ()
    meta = check_directory(directory, kind, wanted, expected, config.dataset.name)
    barrier()
    return meta["parameters_hash"]


CACHED_SPLITS = ("train", "val")
"""Splits whose images may be read from `dataset.image_cache`."""


def image_cache_dir(config: Config, split: str) -> str:
    """Where the resized images of a split lie: in `dataset.image_cache`, or without it beside the superpixels."""
    beside = f"{os.path.normpath(config.dataset.superpixel)}_images"
    return os.path.join(config.dataset.image_cache or beside, split)


def _image_cache(config: Config, reader: Reader, size: tuple[int, int]) -> str | None:
    if config.dataset.image_cache is None or reader.split not in CACHED_SPLITS:
        return None
    directory = image_cache_dir(config, reader.split)
    dataset = {"name": reader.name, "version": reader.version, "split": reader.split}
    expected = {"parameters": cache_parameters(size), "dataset": dataset}
    _check_directory(config, directory, IMAGE_CACHE, reader.tokens(), expected)
    return directory


def weak_label_parameters(config: Config) -> WeakLabelParameters:
    """The numbers of the pre-segmentation and annotation."""
    clusterer = ClustererParameters(**config.dataset.clusterer)
    together = {"window": config.proposals.window, "window_voxel": config.proposals.voxel}
    return _from_keys(WeakLabelParameters, config.dataset, clusterer=clusterer, **together)


def superpixel_parameters(config: Config, size: tuple[int, int]) -> SuperpixelParameters:
    """The numbers of SEEDS, at the image size of training."""
    return _from_keys(SuperpixelParameters, config.dataset.seeds, image_size=size)


def make_rules(config: Config) -> PseudoLabelRules:
    """The rules of this E-step round."""
    return _from_keys(PseudoLabelRules, config.estep, keep_previous=config.step.round > 1)


def _from_keys(kind: type[T], node: Config, **given: Any) -> T:
    """Fills a dataclass's fields from the keys of the same names; lists become tuples."""
    names = [field.name for field in dataclasses.fields(kind) if field.name not in given]  # type: ignore[arg-type]
    values = {name: tuple(node[name]) if isinstance(node[name], list) else node[name] for name in names}
    return kind(**values, **given)


def checkpoint_dir(config: Config, run_dir: str) -> str:
    """RUN/checkpoints for pretraining, RUN/checkpoints_mstep_0 and _1 for M-steps 1 and 2."""
    if config.step.kind not in ("pretrain", "mstep"):
        raise UserError(
            f"step.kind is '{config.step.kind}'; this command trains and needs pretrain or mstep: take a "
            "configuration of configs/*/pretrain or configs/*/mstep"
        )
    return os.path.join(
        run_dir, "checkpoints" if config.step.kind == "pretrain" else f"checkpoints_mstep_{config.step.round - 1}"
    )


def pseudo_label_dir(run_dir: str, step_round: int) -> str:
    """RUN/pseudo_labels_0 and _1 for rounds 1 and 2."""
    return os.path.join(run_dir, f"pseudo_labels_{step_round - 1}")
