"""Evaluation of a checkpoint: the step behind eval_miou.py."""

import os

import numpy as np
from torch import Tensor
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core import builder
from core.checkpoint import load_weights
from core.comm import barrier, sum_over_processes
from core.datasets.base import Reader, Submission
from core.errors import UserError
from core.estep import no_grad_inference
from core.evaluation import ConfusionCounts, batch_points, choices, count_in_view, head_labels, labels_of_points
from core.precision import say_float32
from core.predictions import PredictionWriter
from core.progress import progress
from core.results import SCOPES, class_table, result_row, save_row
from core.runtime import Run, environment

BASELINES = {"sparse": "sparse baseline", "full": "full supervision"}
"""Names in the tables of what criteria other than the method's train."""


def evaluate(run: Run) -> None:
    """Scores a checkpoint on a split, and writes predictions and a submission where asked for.

    Results go to results.json in --run-dir, by default the run directory that the checkpoint lies in.
    """
    config, arguments, device = run.config, run.arguments, run.device
    reader = builder.make_reader(config, arguments.split)
    say_float32(config.amp_enabled, "evaluation")
    scored = arguments.split != "test"
    if not scored and not (arguments.save_predictions or arguments.submission):
        raise UserError("--split test has no labels: give --submission DIR or --save-predictions DIR")
    reader.check_files(labels=scored)
    loader = builder.make_loader(config, builder.make_dataset(config, reader, "eval", every_point=True))
    network = builder.make_model(config, device, imagenet=False)
    load_weights(network, arguments.weight_path)
    infer = no_grad_inference(network, device, image_head=scored)
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
            for token, label in zip(batch.tokens, _by_frame(labels["vox"], points.sizes), strict=True):
                writer.write(token, label)
        if submission:
            chosen = labels_of_points(choices(outputs.x_vox, without=config.data.ignore_label), points)
            for index, label in zip(batch.indices, _by_frame(chosen, points.sizes), strict=True):
                submission.write(reader.frame(index), label)
    counts = sum_over_processes(confusion.numpy())
    barrier()
    if dist.is_master():
        _finish(run, reader, counts, writer, submission)
    barrier()  # a long submission should not be left alone by the other processes


def _finish(
    run: Run,
    reader: Reader,
    counts: np.ndarray,
    writer: PredictionWriter | None,
    submission: Submission | None,
) -> None:
    """What the first process does when all frames are predicted: checks what was written, saves and shows scores."""
    config, arguments = run.config, run.arguments
    if writer:
        writer.finish(arguments.weight_path)
        logger.info(f"Predictions written to {arguments.save_predictions}.")
    if submission:
        submission.finish()
        logger.info(f"Submission written to {arguments.submission}, and checked.")
    if arguments.split != "test":
        row = result_row(
            arguments.weight_path,
            arguments.split,
            config.dataset.points,
            len(reader),
            dict(zip(SCOPES, counts, strict=True)),
            reader.classes.names,
            config.data.ignore_label,
            environment(),
            reader.benchmark_iou(counts[SCOPES.index("vox/all")]),
        )
        row["stage"] = BASELINES.get(config.criterion.name, row["stage"])
        path = os.path.join(_run_dir(arguments.run_dir, arguments.weight_path), "results.json")
        save_row(path, row)
        logger.info(
            f"{arguments.weight_path} on {arguments.split} ({len(reader)} frames), in {path}:\n{class_table(row)}"
        )


def _by_frame(label: Tensor, sizes: list[int]) -> list[np.ndarray]:
    """The labels uint8 [T] of a batch's points, on the host, frame by frame."""
    return np.split(label.cpu().numpy(), np.cumsum(sizes)[:-1])


def _run_dir(given: str | None, weight_path: str) -> str:
    """The run directory: given, or the folder above the checkpoint's."""
    return given or os.path.dirname(os.path.dirname(os.path.abspath(weight_path)))
