"""Checkpoints: reading them safely, loading them into a network, ImageNet weights, finding the newest."""

import glob
import hashlib
import os
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchpack.utils.logging import logger

from core.errors import UserError
from core.running.files import write_atomic
from core.training.network_input import check_input
from core.training.safe_reading import read_safely

RESNETS = {"resnet18": "resnet18-5c106cde.pth", "resnet34": "resnet34-b627a593.pth"}
"""torchvision's files of ImageNet weights."""
RESNET_URL = "https://download.pytorch.org/models/"


def save_checkpoint(path: str, state: Mapping[str, Any]) -> None:
    """Writes a checkpoint under another name and renames it when it is whole."""
    try:
        with write_atomic(path) as file:
            torch.save(dict(state), file)
    except (OSError, RuntimeError) as error:  # PyTorch hides a full disk behind a RuntimeError
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: checkpoint cannot be written ({reason}); earlier ones are intact") from error


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a checkpoint; no code in it is run.

    Entries that hold more than tensors and plain values (NumPy's numbers count as such) are left out; the log says so.
    """
    if not os.path.exists(path):
        raise UserError(f"{path}: no such checkpoint; it is written by the training step before (README, commands 1-5)")
    try:
        _check_bytes(path)
        content, unread = read_safely(path)
    except Exception as error:
        raise UserError(
            f"{path}: not a readable checkpoint ({type(error).__name__}): damaged, of another format, or holding code; "
            "take another one, or train again"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a dict with the network's state as 'model', found {type(content).__name__}")
    if unread:
        logger.warning(f"{path}: not read, since they hold more than tensors and plain values: {', '.join(unread)}.")
    return content


def _check_bytes(path: str) -> None:
    """Raises ValueError where a byte has changed since writing: PyTorch does not look at the file's checksums."""
    if not zipfile.is_zipfile(path):
        return  # the format before PyTorch 1.6 has none
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"checksum of {damaged} is wrong")


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state, without the `module.` prefix that DDP adds."""
    state = checkpoint.get("model", checkpoint)
    return {name.removeprefix("module."): value for name, value in state.items() if isinstance(value, Tensor)}


def load_weights(model: nn.Module, path: str, own_input: Mapping[str, Any] | None = None) -> None:
    """Loads the network state of a checkpoint, strictly.

    Args:
        own_input: what the configuration's network takes, to be compared with what the checkpoint says (see
            core/training/network_input.py).
    Raises UserError where the state does not fit, or the input means something else.
    """
    content = read_checkpoint(path)
    state = network_state(content)
    check_fits(model, state, path)
    if own_input is not None:
        check_input(content, own_input, path)
    model.load_state_dict(state)


def check_fits(model: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Raises UserError when names or shapes differ, naming the first difference and the keys that decide them."""
    own = model.state_dict()
    problems = [
        f"{name} is {list(state[name].shape)}, the configuration's network has {list(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    problems += [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is unknown to the configuration's network" for name in state if name not in own]
    if problems:
        raise UserError(
            f"{path}: does not fit the network: {problems[0]} ({len(problems)} differences); set model.name, model.cr, "
            "model.in_channel and data.num_classes as they were in training"
        )


def load_imagenet(branch: nn.Module, source: str | None, resnet: str = "resnet18") -> None:
    """Loads ImageNet weights into the image branch: a torchvision ResNet or a SwiftNet file, or "torchvision".

    Tensors are taken by name and shape; the log says how many, and which were not.

    Args:
        resnet: which ResNet the branch is built on, one of RESNETS.
    Raises UserError when there is no such file, or it holds another ResNet.
    """
    if source is None:
        return
    if source == "torchvision":
        from torchvision.models import get_model_weights

        state = get_model_weights(resnet)["IMAGENET1K_V1"].get_state_dict(progress=True)
    elif os.path.exists(source):
        state = network_state(read_checkpoint(source))
    else:
        raise UserError(
            f"{source}: ImageNet weights not found; download {RESNET_URL}{RESNETS[resnet]} to that path, or set "
            "model.imagenet_pretrain to torchvision (downloads it) or null (from scratch)"
        )
    own = branch.state_dict()
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    taken = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not taken:
        raise UserError(f"{source}: holds no tensor of the image branch; expected a {resnet} or SwiftNet file")
    needed, found = (
        {".".join(name.split(".")[:2]) for name in names if name.startswith("layer")} for names in (own, state)
    )
    if needed != found:
        raise UserError(
            f"{source}: holds a ResNet of {len(found)} blocks, that of model.name has {len(needed)}; set "
            f"model.imagenet_pretrain to a file of {resnet} ({RESNETS[resnet]})"
        )
    branch.load_state_dict(taken, strict=False)
    left_in_file = sorted(set(state) - set(taken))
    logger.info(
        f"ImageNet weights: {len(taken)} tensors taken from {source}; not taken from it: "
        f"{', '.join(left_in_file) or 'none'}; {len(own) - len(taken)} tensors of the image branch start at random."
    )


def newest_readable_checkpoint(folder: str) -> tuple[str, dict[str, Any]] | None:
    """The step-N.pt with the largest N that can be read, and its content; None where there is no step-N.pt at all.

    Raises UserError where there are some, but none that can be read.
    """
    paths = step_checkpoints(folder)
    for path in reversed(paths):
        try:
            return path, read_checkpoint(path)
        except UserError as error:
            logger.warning(f"{error}; taking the one before it, if there is one.")
    if paths:
        raise UserError(
            f"{folder}: none of its {len(paths)} step-*.pt can be read; remove them to train from the start, or give "
            "another checkpoint with --weight-path after that"
        )
    return None


def step_checkpoints(folder: str) -> list[str]:
    """All step-N.pt in `folder`, N ascending."""
    steps = {}
    for path in glob.glob(os.path.join(glob.escape(folder), "step-*.pt")):
        match = re.fullmatch(r"step-(\d+)\.pt", os.path.basename(path))
        if match:
            steps[int(match[1])] = path
    return [steps[step] for step in sorted(steps)]


def file_hash(path: str) -> str:
    """16 hexadecimal digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()[:16]
