"""Evaluation of a checkpoint: the step behind eval_miou.py."""

import os

import numpy as np
from torchpack import distributed as dist
from torchpack.utils.logging import logger

from core import builder
from core.checkpoint import load_weights
from core.comm import barrier, sum_over_processes
from core.datasets.base import Reader, Submission
from core.errors import UserError
from core.estep import no_grad_inference
from core.evaluation import HEADS, FramePrediction, label_all_points, predictions, seen_rows
from core.metrics import confusion_matrix
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
    scored = arguments.split != "test"
    if not scored and not (arguments.save_predictions or arguments.submission):
        raise UserError("--split test has no labels: give --submission DIR or --save-predictions DIR")
    reader.check_files(labels=scored)
    loader = builder.make_loader(config, builder.make_dataset(config, reader, "eval"))
    network = builder.make_model(config, device, imagenet=False)
    load_weights(network, arguments.weight_path)
    infer = no_grad_inference(network, device, builder.amp_dtype(config))
    writer = PredictionWriter(arguments.save_predictions, reader) if arguments.save_predictions else None
    submission = reader.open_submission(arguments.submission) if arguments.submission else None

    num_classes = config.data.num_classes
    counts = np.zeros((len(SCOPES), num_classes, num_classes), np.int64)
    for batch in progress(loader, len(loader), f"evaluation on {arguments.split}"):
        for prediction in predictions(infer(batch), batch, config.data.ignore_label):
            frame = reader.frame(prediction.index)
            xyz = reader.load_points(frame)[:, :3]
            everywhere = label_all_points(prediction, prediction.labels["vox"], xyz)
            if scored:
                counts += _confusions(prediction, everywhere, reader, num_classes)
            if writer:
                writer.write(frame.token, everywhere)
            if submission:
                submission.write(frame, label_all_points(prediction, prediction.evaluated["vox"], xyz))
    counts = sum_over_processes(counts)
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
            {scope: count for scope, count in zip(SCOPES, counts, strict=True) if count.any() or scope == "vox/all"},
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


def _confusions(prediction: FramePrediction, everywhere: np.ndarray, reader: Reader, num_classes: int) -> np.ndarray:
    """[3, C, C] in the order of SCOPES."""
    label = reader.load_labels(reader.frame(prediction.index), prediction.num_points)
    seen = seen_rows(prediction, reader)
    in_view = label[prediction.rows[seen]]
    none = np.zeros((num_classes, num_classes), np.int64)
    matrices = [
        confusion_matrix(in_view, prediction.labels[head][seen], num_classes) if head in prediction.labels else none
        for head in HEADS
    ]
    return np.stack([*matrices, confusion_matrix(label, everywhere, num_classes)])


def _run_dir(given: str | None, weight_path: str) -> str:
    """The run directory: given, or the folder above the checkpoint's."""
    return given or os.path.dirname(os.path.dirname(os.path.abspath(weight_path)))
