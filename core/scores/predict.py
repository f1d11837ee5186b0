"""Predictions for any frames, labelled or not: the step behind predict.py."""

import io
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchpack import distributed as dist
from torchpack.utils.config import Config
from torchpack.utils.logging import logger

from core import builder
from core.datasets.base import Reader
from core.errors import UserError
from core.estep import no_grad_inference
from core.label_files.errors import PREDICTION
from core.label_files.files import describe, write_meta
from core.labeling.annotation.proposals import cloud_hash, read_proposal
from core.labeling.annotation.uncertainty import UNCERTAINTY, component_uncertainty
from core.labeling.over_data_set.prepare import claim_directory, finish_directory
from core.loader.collate import Batch
from core.models.two_branch import Outputs
from core.running.comm import barrier, in_first_process
from core.running.files import write_atomic
from core.running.progress import progress
from core.running.runtime import Run
from core.scores.evaluation import batch_points, by_frame, values_of_points
from core.scores.metrics import IGNORED
from core.scores.point_files import FORMATS
from core.steps import command_line
from core.training.checkpoint import file_hash, load_weights
from core.training.precision import say_float32


def predict(run: Run) -> None:
    """Writes class and confidence of every point of a split's frames; frames that are there already are left out."""
    config, arguments = run.config, run.arguments
    reader = builder.make_reader(config, arguments.split)
    if not len(reader):
        raise UserError(f"--split {arguments.split}: has no frames; choose another split")
    in_first_process(lambda: reader.check_files(labels=False))
    say_float32(config.amp_enabled, "prediction")
    config.dataset.points = "all"
    dataset = builder.make_dataset(config, reader, "eval", every_point=True, scored=False)
    network = builder.make_model(config, run.device, imagenet=False)
    network_input = builder.network_input(config, reader)
    load_weights(network, arguments.weight_path, network_input)
    infer = no_grad_inference(
        network, run.device, image_head=arguments.uncertainty, views=builder.inference_views(config)
    )

    parameters = {"checkpoint": file_hash(arguments.weight_path), "format": arguments.format, "seed": config.train.seed}
    parameters |= {"voxel_size": config.dataset.voxel_size, "uncertainty": arguments.uncertainty}
    parameters |= builder.describe_inference(config)
    description = describe(PREDICTION, parameters, None, reader)
    in_first_process(lambda: claim_directory(arguments.output, description))
    own = range(dist.rank(), len(reader), dist.size())
    remaining = [i for i in own if not _is_there(arguments, reader.frame(i).token)]
    if len(remaining) < len(own):
        logger.info(f"{arguments.output}: {len(own) - len(remaining)} frames of this process are there already.")
    loader = builder.make_remaining_loader(config, dataset, remaining)
    begin, points = time.perf_counter(), 0
    for batch in progress(loader, len(loader), f"predictions of {arguments.split}"):
        batch = batch.to(run.device, non_blocking=True)
        for found in point_predictions(infer(batch), batch):
            points += _write(config, arguments, reader, found)
    seconds = time.perf_counter() - begin
    if remaining:
        rate = f"{len(remaining) / seconds:.2f} frames and {points / seconds:,.0f} points a second in this process"
        logger.info(f"{len(remaining)} frames predicted: {rate}.")
    barrier()
    if dist.is_master():
        made = {"frames": len(reader)}
        write_meta(arguments.output, PREDICTION, parameters, None, reader, made, command=command_line())
        finish_directory(arguments.output)
        logger.info(f"Predictions written to {arguments.output}.")


def _is_there(arguments: Any, token: str) -> bool:
    names = [f"{token}.{arguments.format}", *([token + UNCERTAINTY] if arguments.uncertainty else [])]
    return all(os.path.exists(os.path.join(arguments.output, name)) for name in names)


def point_predictions(outputs: Outputs, batch: Batch) -> Iterator[dict[str, Any]]:
    """What the network says of every point of each frame of a batch, all on its device.

    Yields {"index": of the frame, "label": uint8 [N], never the ignored class, "confidence": float32 [N], "entropy":
    float32 [N] of 0..1, "differs": bool [N] (None without image head): the image head chooses another class}. All are 0
    where there is no point (see `is_valid`).
    """
    logits = outputs.x_vox.detach().float()
    logits[:, IGNORED] = -torch.inf
    probabilities = torch.softmax(logits, 1)
    confidence, label = probabilities.max(1)
    entropy = torch.special.entr(probabilities).sum(1) / np.log(max(logits.shape[1] - 1, 2))
    differs = None
    if outputs.x_pix is not None:
        pixels = outputs.x_pix.detach().float()
        pixels[:, IGNORED] = -torch.inf
        differs = pixels.argmax(1) != label
    points = batch_points(batch)
    fields = {"label": label.byte(), "confidence": confidence, "entropy": entropy, "differs": differs}
    arrays: dict[str, list[Any]] = {
        name: [None] * len(points.sizes) if field is None else by_frame(values_of_points(field, points), points)
        for name, field in fields.items()
    }
    for i, index in enumerate(batch.indices):
        yield {"index": index} | {name: frames[i] for name, frames in arrays.items()}


def _write(config: Config, arguments: Any, reader: Reader, found: dict[str, Any]) -> int:
    """Writes one frame's files, that of its classes last; returns the number of its points."""
    frame = reader.frame(found["index"])
    points = reader.load_points(frame)
    if arguments.uncertainty:
        content = _uncertainty(config, reader, found, points)
        with write_atomic(os.path.join(arguments.output, frame.token + UNCERTAINTY)) as file:
            file.write(content)
    xyz = reader.in_file(frame, points[:, :3], np.nan)
    label, confidence = reader.in_file(frame, found["label"]), reader.in_file(frame, found["confidence"])
    with write_atomic(os.path.join(arguments.output, f"{frame.token}.{arguments.format}")) as file:
        file.write(FORMATS[arguments.format](xyz, label, confidence, reader.classes))
    if arguments.format == "label":
        with write_atomic(os.path.join(arguments.output, f"{frame.token}_confidence.npy")) as file:
            np.save(file, confidence)
    return len(points)


def _uncertainty(config: Config, reader: Reader, found: dict[str, Any], points: NDArray[np.float32]) -> bytes:
    """Content of an archive with the fields of `Uncertainty`, the window, and the hash of its proposals."""
    frame = reader.frame(found["index"])
    proposal = read_proposal(config.proposals.path, frame.token, len(points))
    if proposal.cloud != cloud_hash(points):
        raise UserError(f"{frame.lidar_path}: changed since its proposals were made; make them again")
    result = component_uncertainty(
        proposal.component,
        found["label"],
        found["confidence"],
        found["entropy"],
        found["differs"],
        reader.project(frame, points).seen,
        reader.classes.num_classes,
    )
    buffer = io.BytesIO()
    np.savez(buffer, window=proposal.window, identity=proposal.identity, **vars(result))
    return buffer.getvalue()
