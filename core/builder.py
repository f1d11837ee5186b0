"""From the configuration to objects: the only place that makes them; steps take single values from it."""

import dataclasses
import multiprocessing
import os
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core.datasets.augmentation import Augmentation
from core.datasets.base import Reader
from core.datasets.catalog import open_dataset
from core.datasets.image_cache import cache_parameters
from core.datasets.label_sources import LabelSources
from core.datasets.sample import SegmentationDataset
from core.errors import UserError
from core.label_files.files import IMAGE_CACHE, PSEUDO_LABEL, SUPERPIXEL, WEAK_LABEL, check_directory
from core.labeling.annotation.parameters import ClustererParameters, SuperpixelParameters, WeakLabelParameters
from core.labeling.pseudo_labels import PseudoLabelRules
from core.loader.collate import collate
from core.loader.handover import Handover, allow_descriptors, free_shared_memory, wanted_shared_memory
from core.loader.sampler import EpochSampler
from core.loader.worker_signals import follow_training
from core.losses import LossWeights
from core.models import SPVCNN, TwoBranchNetwork
from core.models.synchronized_norm import synchronize_batch_norm
from core.running.comm import barrier
from core.running.config import check_conflicts
from core.running.temporary import make_room_for_sockets
from core.sparse import choose_engine
from core.training.checkpoint import load_imagenet
from core.training.schedulers import cosine_warmup

T = TypeVar("T")


# --- data ---


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
    _check_features(config, reader)
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


def training_precision(config: Config, device: torch.device) -> str:
    """What training computes in: "float32", "tf32", or the type of mixed precision."""
    if config.amp_enabled:
        return config.amp_dtype
    return "tf32" if device.type == "cuda" and config.train.tf32 else "float32"


def point_features(config: Config, reader: Reader) -> list[str]:
    """Names of the features of a point that the network takes, in their order."""
    return ["x", "y", "z", *reader.features, *(["R", "G", "B"] if config.dataset.use_color else [])]


def _check_features(config: Config, reader: Reader) -> None:
    names = point_features(config, reader)
    if config.model.in_channel != len(names):
        raise UserError(
            f"model.in_channel is {config.model.in_channel}, but points have {len(names)} features: {', '.join(names)} "
            f"(dataset.use_color {str(config.dataset.use_color).lower()})"
        )


def reads_images(config: Config) -> bool:
    """Whether samples hold images: not for the point branch alone, unless points take colours from them."""
    return config.model.name != LIDAR_ALONE or config.dataset.use_color


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


# --- labels ---


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


# --- network, losses, optimiser ---

LIDAR_ALONE = "spvcnn"
"""The network without image branch."""
IMAGE_BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
NETWORKS = {
    "spvcnn_swiftnet18_nusc": ("resnet18", False),
    "spvcnn_swiftnet18_nusc_assop2p": ("resnet18", True),
    "spvcnn_swiftnet18": ("resnet18", False),
    "spvcnn_swiftnet18_assop2p": ("resnet18", True),
    "spvcnn_swiftnet34": ("resnet34", False),
    "spvcnn_swiftnet34_assop2p": ("resnet34", True),
}
"""Networks: the image branch's ResNet, and whether they have the association's projections. The first two are the
published names; nothing in a network is of one data set."""


def make_model(config: Config, device: torch.device, imagenet: bool = True) -> TwoBranchNetwork | SPVCNN:
    """The network on its device, in the chosen sparse engine; `imagenet` loads the image branch's weights."""
    model = config.model
    if model.name == LIDAR_ALONE:
        choose_engine(model.sparse_engine, device)
        return SPVCNN(config.data.num_classes, model.in_channel, model.cr, model.dropout).to(device)
    resnet, projects = NETWORKS[model.name]
    choose_engine(model.sparse_engine, device)
    network = TwoBranchNetwork(
        num_classes=config.data.num_classes,
        in_channel=model.in_channel,
        cr=model.cr,
        proj_channel=model.proj_channel if projects else 0,
        image_blocks=IMAGE_BLOCKS[resnet],
        image_normalize=config.dataset.image_normalize,
        dropout=model.dropout,
        channels_last=model.channels_last,
        project=not model.is_estep and make_loss_weights(config).association != 0,
    )
    _hold_still(network, make_loss_weights(config))
    network.pix_branch.checkpoint_stem = model.checkpoint_stem
    if model.compile:
        network.pix_branch.compile(dynamic=False)  # in place: names of the state stay
    if imagenet:
        load_imagenet(network.pix_branch, model.imagenet_pretrain, resnet)
    return network.to(device)


def _hold_still(network: TwoBranchNetwork, weights: LossWeights) -> None:
    """Lets parameters that no term of the loss reaches ask for no gradient: DDP would wait for it in vain."""
    labels = (weights.sparse, weights.propagated, weights.negative, weights.pseudo, weights.dense)
    parts: dict[nn.Module | None, bool] = {
        network.projector2d: network.project,
        network.projector3d: network.project,
        network.classifier_vox: any(labels),
        network.classifier_pix: any(labels),
    }
    for part, trains in parts.items():
        if part is not None:
            part.requires_grad_(trains)


def distribute(config: Config, network: nn.Module, device: torch.device) -> nn.Module:
    """Wraps the network for training with several processes: synchronised batch norm on GPUs, averaged gradients."""
    if dist.size() == 1 or not config.ddp:
        return network
    # 1x1 kernels have the same memory order in both layouts; DDP only notes that their strides are written differently
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    synchronised = device.type == "cuda"
    return nn.parallel.DistributedDataParallel(
        synchronize_batch_norm(network) if synchronised else network,
        device_ids=[device.index] if synchronised else None,
        broadcast_buffers=not synchronised,  # where statistics are those of all rows, they are the same everywhere
        gradient_as_bucket_view=True,
    )


def make_loss_weights(config: Config) -> LossWeights:
    """The weights of the terms that the criterion's name lets take part."""
    c = config.criterion
    terms = {
        "sparse": {"sparse", "propagated", "negative"},
        "sparse_assop2p": {"sparse", "propagated", "negative", "asso"},
        "sparse_assop2p_mstep": {"sparse", "propagated", "negative", "asso", "pseudo"},
        "full": {"dense"},
    }

    def weight(name: str) -> float:
        takes_part = name in terms[c.name] and not (name == "asso" and config.model.name == LIDAR_ALONE)
        return c[f"{name}_weight"] if takes_part else 0.0

    return LossWeights(
        sparse=weight("sparse"),
        propagated=weight("propagated"),
        negative=weight("negative"),
        pseudo=weight("pseudo"),
        dense=weight("dense"),
        association=weight("asso"),
        visit=c.visit_weight,
        temperature=c.temperature,
    )


def check_criterion(config: Config) -> None:
    """Raises UserError when no term of training's loss has a weight, or when the network lacks the projections that an
    association term needs."""
    m, weights = config.model, make_loss_weights(config)
    if not any(vars(dataclasses.replace(weights, visit=0, temperature=0)).values()):
        raise UserError(
            f"criterion: every weight that takes part in '{config.criterion.name}' is 0, so that there is nothing to "
            "train; give one of them a value > 0"
        )
    if m.name == "auto":  # takes projections where they are needed
        return
    if weights.association and not (NETWORKS[m.name][1] and m.proj_channel and not m.is_estep):
        raise UserError(
            f"criterion.name: '{config.criterion.name}' with criterion.asso_weight > 0 needs "
            "a model.name that ends in _assop2p, model.proj_channel > 0 and model.is_estep false"
        )


def make_optimizer(config: Config, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over all parameters; on a GPU its update is one kernel for many of them."""
    o, parameters = config.optimizer, list(network.parameters())
    # PyTorch 2.4 refuses gradients of 1x1 kernels, whose strides are written differently
    fused = (parameters[0].is_cuda and torch.__version__ >= "2.5") or None
    optimizer: torch.optim.Optimizer
    if o.name == "sgd":
        optimizer = torch.optim.SGD(
            parameters, o.lr, o.momentum, weight_decay=o.weight_decay, nesterov=o.nesterov, fused=fused
        )
    else:
        optimizer = torch.optim.AdamW(parameters, lr=o.lr, weight_decay=o.weight_decay, fused=fused)
    optimizer.register_load_state_dict_pre_hook(partial(_with_own_update, fused))
    return optimizer


def _with_own_update(fused: bool | None, _: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A loaded state without the choice of kernels of the machine that wrote it."""
    return {**state, "param_groups": [{**group, "fused": fused} for group in state["param_groups"]]}


def make_schedule(config: Config, num_frames: int) -> Any:
    """The factor on the learning rate, as a function of the iteration."""
    s = config.scheduler
    if s.name == "cosine_warmup":
        return cosine_warmup(config.num_epochs, num_frames, config.batch_size, dist.size(), s.warmup_iterations)
    return lambda iteration: 1.0


def amp_dtype(config: Config) -> torch.dtype | None:
    """The precision of mixed-precision training, or None."""
    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[config.amp_dtype] if config.amp_enabled else None


# --- where results lie in the run directory ---


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
