"""Evaluation of a checkpoint: the step behind eval_miou.py."""

import os
from typing import Any

import numpy as np
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core import builder
from core.datasets.base import Reader, Submission
from core.errors import UserError
from core.estep import no_grad_inference
from core.running.comm import all_objects, barrier, sum_over_processes
from core.running.environment import environment
from core.running.progress import progress
from core.running.runtime import Run
from core.scores.evaluation import (
    ConfusionCounts,
    batch_points,
    by_frame,
    choices,
    confidences,
    count_in_view,
    head_labels,
    labels_of_points,
    values_of_points,
)
from core.scores.metrics import IGNORED
from core.scores.predictions import PredictionWriter
from core.scores.results import SCOPES, class_table, result_row, save_row
from core.training.checkpoint import load_weights
from core.training.network_input import STORED
from core.training.precision import say_float32

BASELINES = {"sparse": "sparse baseline", "full": "full supervision"}
"""Names in the tables of what criteria other than the method's train."""


def evaluate(run: Run) -> None:
    """Scores a checkpoint on a split, and writes predictions and a submission where asked for.

    Results go to results.json in --run-dir, by default the run directory that the checkpoint lies in.
    """
    config, arguments, device = run.config, run.arguments, run.device
    reader = builder.make_reader(config, arguments.split)
    say_float32(config.amp_enabled, "evaluation")
    with_confidence = getattr(arguments, "confidences", False)
    if with_confidence and not arguments.save_predictions:
        raise UserError("--confidences says what --save-predictions DIR writes: give that too")
    predicts = bool(arguments.save_predictions or arguments.submission)
    scored = all_objects(dist.is_master() and _check_files(reader, arguments.split, predicts))[0]
    loader = builder.make_loader(config, builder.make_dataset(config, reader, "eval", every_point=True, scored=scored))
    network = builder.make_model(config, device, imagenet=False)
    network_input = builder.network_input(config, reader)
    load_weights(network, arguments.weight_path, network_input)
    infer = no_grad_inference(network, device, image_head=scored, views=builder.inference_views(config))
    writer = PredictionWriter(arguments.save_predictions, reader) if arguments.save_predictions else None
    submission = reader.open_submission(arguments.submission) if arguments.submission else None

    confusion = ConfusionCounts((len(SCOPES),), config.data.num_classes, device)
    for batch in progress(loader, len(loader), f"evaluation on {arguments.split}"):
        batch = batch.to(device, non_blocking=True)
        outputs, points = infer(batch), batch_points(batch)
        labels = head_labels(outputs, points)
        if scored:
            count_in_view(confusion, labels, points)  # SCOPES begin with the HEADS
            confusion.add(SCOPES.index("vox/all"), points.label, labels["vox"], points.labelled)
        if writer:
            frames = by_frame(labels["vox"], points)
            sure: list[np.ndarray] | list[None] = [None] * len(frames)
            if with_confidence:
                sure = by_frame(values_of_points(confidences(outputs.x_vox), points), points)
            for token, label, confidence in zip(batch.tokens, frames, sure, strict=True):
                writer.write(token, label, confidence)
        if submission:
            chosen = labels_of_points(choices(outputs.x_vox, without=IGNORED), points)
            for index, label in zip(batch.indices, by_frame(chosen, points), strict=True):
                submission.write(reader.frame(index), label)
    counts = sum_over_processes(confusion.numpy())
    barrier()
    if dist.is_master():
        loaded = {STORED: network_input, **builder.describe_inference(config)}
        _finish(run, reader, counts if scored else None, writer, submission, loaded)
    barrier()  # a long submission should not be left alone by the other processes


def _check_files(reader: Reader, split: str, predicts: bool) -> bool:
    """Checks the files of the split; returns whether there are labels to score predictions by.

    Raises UserError: files are missing; or labels are, and nothing but scores is asked for (not `predicts`).
    """
    if split == "test" and not predicts:
        raise UserError("--split test has no labels: give --submission DIR or --save-predictions DIR")
    if predicts:
        reader.check_files(labels=False)
    if split == "test":
        return False
    try:
        reader.check_files(labels=True)
    except UserError as error:
        if not predicts:
            raise
        logger.warning(f"Predictions are not scored: {error}")
        return False
    return True


def _finish(
    run: Run,
    reader: Reader,
    counts: np.ndarray | None,
    writer: PredictionWriter | None,
    submission: Submission | None,
    loaded: dict[str, Any],
) -> None:
    """What the first process does when all frames are predicted: checks what was written, saves and shows scores.

    Args:
        counts: [3, C, C] in the order of SCOPES; None: no labels.
        loaded: what results.json says of the network besides.
    """
    config, arguments = run.config, run.arguments
    if writer:
        writer.finish(arguments.weight_path)
        logger.info(f"Predictions written to {arguments.save_predictions}.")
    if submission:
        submission.finish()
        logger.info(f"Submission written to {arguments.submission}, and checked.")
    if counts is not None:
        row = result_row(
            arguments.weight_path,
            arguments.split,
            config.dataset.points,
            len(reader),
            {scope: count for scope, count in zip(SCOPES, counts, strict=True) if count.any() or scope == "vox/all"},
            reader.classes.names,
            environment(),
            reader.benchmark_iou(counts[SCOPES.index("vox/all")]),
        )
        row["stage"] = BASELINES.get(config.criterion.name, row["stage"])
        row |= loaded
        path = os.path.join(_run_dir(arguments.run_dir, arguments.weight_path), "results.json")
        save_row(path, row)
        logger.info(
            f"{arguments.weight_path} on {arguments.split} ({len(reader)} frames), in {path}:\n{class_table(row)}"
        )


def _run_dir(given: str | None, weight_path: str) -> str:
    """The run directory: given, or the folder above the checkpoint's."""
    return given or os.path.dirname(os.path.dirname(os.path.abspath(weight_path)))
