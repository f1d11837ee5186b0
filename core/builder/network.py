"""The network, and the terms of its loss."""

import dataclasses
import warnings
from typing import Any

import torch
from torch import nn
from torchpack import distributed as dist
from torchpack.utils.config import Config

from core.errors import UserError
from core.losses import LossWeights
from core.models import SPVCNN, TwoBranchNetwork
from core.models.synchronized_norm import synchronize_batch_norm
from core.models.views import View, make_views
from core.sparse import choose_engine
from core.training.checkpoint import load_imagenet

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
        project=_projects(config) and make_loss_weights(config).association != 0,
    )
    _hold_still(network, make_loss_weights(config))
    network.pix_branch.checkpoint_stem = model.checkpoint_stem
    if model.compile:
        network.pix_branch.compile(dynamic=False)  # in place: names of the state stay
    if imagenet:
        load_imagenet(network.pix_branch, model.imagenet_pretrain, resnet)
    return network.to(device)


def _projects(config: Config) -> bool:
    """Whether the forward pass makes the projections, where the network has them: not in E-steps."""
    given = config.model.is_estep
    return config.step.kind != "estep" if given is None else not given


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


def inference_views(config: Config) -> tuple[View, ...]:
    """The views of the points over which E-steps, evaluations and predictions average."""
    return make_views(config.eval_turns)


def describe_inference(config: Config) -> dict[str, Any]:
    """What files say of how the network was run; nothing where it was as published."""
    return {"turns": config.eval_turns} if config.eval_turns > 1 else {}


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
        normalize=c.normalize,
        ramp=c.asso_ramp,
    )


def check_criterion(config: Config) -> None:
    """Raises UserError when no term of training's loss has a weight, or when the network lacks the projections that an
    association term needs."""
    m, weights = config.model, make_loss_weights(config)
    if not any(vars(dataclasses.replace(weights, visit=0, temperature=0, normalize=False, ramp=0)).values()):
        raise UserError(
            f"criterion: every weight that takes part in '{config.criterion.name}' is 0, so that there is nothing to "
            "train; give one of them a value > 0"
        )
    if m.name == "auto":  # takes projections where they are needed
        return
    if weights.association and not (NETWORKS[m.name][1] and m.proj_channel and _projects(config)):
        raise UserError(
            f"criterion.name: '{config.criterion.name}' with criterion.asso_weight > 0 needs "
            "a model.name that ends in _assop2p, model.proj_channel > 0 and model.is_estep false"
        )
